"""Formats of columns: Parquet and Arrow, read in record batches."""
