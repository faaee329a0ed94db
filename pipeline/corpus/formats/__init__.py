"""The formats of corpus files, one module per format: recognition, cutting into pieces, reading of documents.

A new format is a class in a file here and a line in `table.py`. It must not know inputs, filters, work units or tokens.
"""
