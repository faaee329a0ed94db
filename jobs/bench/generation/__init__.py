"""`sllm bench generate`: speed and memory of generation, of sentence-level and token-level models of the same sizes."""
