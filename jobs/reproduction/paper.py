"""The table of SentenceVAE (arXiv 2408.00655) as published: counted by the rules of `pipeline.evaluation.published`."""

SENTENCE_VAE = {
    "125M-H1": 3.605, "125M-H2": 2.588, "125M-H4": 1.649,
    "350M-H1": 2.406, "350M-H2": 1.845, "350M-H4": 1.384,
    "1.3B-H1": 1.622, "1.3B-H2": 1.292, "1.3B-H4": 1.115,
}  # fmt: skip
"""Perplexity of the SentenceVAEs, of hidden sizes 768, 1024 and 2048."""
SLLM = {
    "125M-H1": 31.68, "125M-H2": 44.60, "125M-H4": 14.32,
    "350M-H1": 24.84, "350M-H2": 14.81, "350M-H4": 10.17,
    "1.3B-H1": 8.76, "1.3B-H2": 3.84,
}  # fmt: skip
"""Perplexity of the sentence-level models; none is given for 1.3B-H4."""
TOKEN_LEVEL = {"125M": 26.75, "350M": 25.18, "1.3B": 15.95}
"""Perplexity of OPT on the same text, not trained on it."""
