"""The stream of training data: windows of documents, their order, how they fill micro-batches, and prefetching."""
