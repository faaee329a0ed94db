"""The formats of corpus files, a file each: how one is recognised, cut into pieces, and read as documents.

Does not know inputs, filters, work units or tokens. A new format is a class in a file here and a line in `table.py`.
"""
