"""The rule segmenter `punctuation_v2`: what a character is, what a word is, and where a sentence ends."""
