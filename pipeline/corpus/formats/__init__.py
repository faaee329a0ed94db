"""The formats of corpus files, from bytes to documents. Knows nothing of inputs, filters or tokens."""
