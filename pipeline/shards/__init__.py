"""Sentence shards: the format, the manifest, writing, reading, and copies of remote ones. Knows nothing of models."""
