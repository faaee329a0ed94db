"""The SentenceVAE, the SLLM, the token-level model and how they are built. Knows nothing of the order of the stream,
of training or of evaluation.
"""
