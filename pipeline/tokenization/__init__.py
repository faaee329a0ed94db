"""Text to token ids, and sentences cut at token edges. Knows nothing of files, shards or models."""
