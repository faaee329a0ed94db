"""The checkpoints of a run, in a folder at a path or an fsspec URL, written and read by any number of ranks together.

A checkpoint appears whole or not at all. Each rank puts its files into the folder; when all are there, rank 0 adds the
checksums, then the state, without which it is no checkpoint. Locally this happens in a hidden folder, which then gets
its name. Ray Train's own checkpoints are not used: its manager knows those of one run only, so it would neither remove
those of earlier attempts nor what killed uploads left, and it has no place for a file that comes last.
"""
