"""Likelihoods, ablations, FLOPs and memory of models. Knows nothing of training."""
