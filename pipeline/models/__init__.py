"""The SentenceVAE, the SLLM, the token-level model and how they are built. It must not know the order of the stream,
training or evaluation.
"""
