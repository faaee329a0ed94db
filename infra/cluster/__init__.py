"""Ray: the connection, workers of `sllm prepare`, and training."""
