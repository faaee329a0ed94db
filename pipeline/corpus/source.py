"""A file of the corpus, the pieces it is cut into, and what a survey finds in it."""

from dataclasses import dataclass

from pipeline.corpus.compression import Compression


@dataclass(frozen=True)
class Source:
    """One file (or data set) of the corpus."""

    path: str
    """Local path (`file_names.readable_path`) or URL; for `datasets`, `NAME[:SPLIT]`."""
    name: str
    """Relative to the input it was found through, so the same for any location of the corpus; part of document ids and
    digests. Files of several inputs may have the same."""
    format: str
    """Name of its format in `formats.table.FORMATS`."""
    compression: Compression = ""
    is_dev: bool = False
    """All its documents go to the dev split."""
    dialect: str = ""
    """How its format is written in this file: the delimiter of CSV."""
    has_rows: bool = True
    """Not so for CSV of only a header line."""
    shown_name: str = ""
    """For people: the name, or the path where another file has the same name."""


@dataclass(frozen=True)
class Piece:
    """A part of one file that is read in one go: `start` to `end` (exclusive), in the unit of its format.

    Bytes of uncompressed text for JSONL and CSV (always whole lines), row groups for Parquet, record batches
    for Arrow, rows for `datasets`; a text file is one piece.
    """

    source: Source
    start: int
    end: int
    first_row: int
    """Line (text formats) or row that it starts with, from 0."""
    num_bytes: int
    """Bytes of stored or uncompressed text, for planning."""


@dataclass(frozen=True)
class Survey:
    """What is determined about a file before its documents are read."""

    source: Source
    sha256: str
    """Of the bytes as they are stored."""
    num_bytes: int
    """Bytes of text: uncompressed for text formats."""
    stamp: str
    """Changes when the file does (`streams.stamp`)."""
    pieces: tuple[Piece, ...]
