"""Likelihoods, ablations, FLOPs and memory of models. It must not know how training is launched."""
