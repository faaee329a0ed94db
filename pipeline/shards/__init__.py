"""Sentence shards: preparing them from a corpus, the format, the manifest, reading, and copies of remote ones.

Knows nothing of models. `prepare` is the route of a document; `Workers` and `ShardStore` are what it needs of others.
"""
