"""How the published code of SentenceVAE (arXiv 2408.00655) trains and scores, rebuilt from its description, beside an
exact likelihood: each difference is a rule that can be switched on alone."""
