"""Sentence shards: preparing them from a corpus, the format, the manifest, reading, and copies of remote ones.

`prepare` is the whole algorithm, over the protocols `Workers` and `ShardStore`. It must not know models.
"""
