"""`sllm lineage`: from a result back to the corpus files, and from a file forward to its results."""
