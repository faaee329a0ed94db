"""Tokenization: texts to token ids, and sentences cut at token boundaries.

It must not know files of a corpus, shards or models.
"""
