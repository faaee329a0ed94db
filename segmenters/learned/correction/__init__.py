"""The segmenter `learned_v2`: the rule `punctuation_v2`, and a network that corrects it where the answer is open."""
