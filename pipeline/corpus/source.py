"""A file of the corpus, its pieces, and its survey."""

from dataclasses import dataclass, field

from pipeline.corpus.opening.compression import Compression
from pipeline.corpus.opening.restart_points import RestartPoint


@dataclass(frozen=True)
class TextCut:
    """How a plain text file is cut into documents."""

    document_bytes: int
    """Documents have so many bytes of UTF-8, to twice as many; the last one up to three times."""
    dev_every_bytes: float | None
    """The document with each so-manieth byte of the file goes to the dev split; None: no document."""


@dataclass(frozen=True)
class Source:
    """One file (or data set) of the corpus."""

    path: str
    """Local path (`file_names.readable_path`) or URL; for `datasets`, `NAME[:SPLIT]`."""
    name: str
    """Name relative to its input, so that it does not depend on the location of the corpus; part of document ids and
    digests. Files of several inputs may have equal names."""
    format: str
    """Name of its format in `formats.table.FORMATS`."""
    compression: Compression = ""
    is_dev: bool = False
    """Whether all its documents go to the dev split."""
    dialect: str = ""
    """Variant of the format in this file: the delimiter of CSV."""
    has_rows: bool = True
    """Whether it has rows; False for CSV with only a header line."""
    shown_name: str = ""
    """Name for messages; the path where another file has the same name."""
    text_cut: TextCut | None = None
    """How a plain text file is cut; None: it is one document."""


@dataclass(frozen=True)
class Piece:
    """A part of a file that is read at once: `start` to `end` (exclusive), in the unit of its format.

    Bytes of uncompressed text for JSONL and CSV (always whole lines), row groups for Parquet, record batches
    for Arrow, rows for `datasets`; a text file that is not cut is one piece.
    """

    source: Source
    start: int
    end: int
    first_row: int
    """First line (text formats) or row, from 0."""
    num_bytes: int
    """Bytes of stored or uncompressed text, for planning."""
    point: RestartPoint | None = field(default=None, compare=False, repr=False)
    """A point at or before `start` from which a gzip file can be read."""


@dataclass(frozen=True)
class Survey:
    """Properties of a file that are determined before its documents are read."""

    source: Source
    sha256: str
    """SHA-256 (hex) of the stored bytes."""
    num_bytes: int
    """Bytes of text, uncompressed for text formats."""
    stamp: str
    """Changes when the file does (`streams.stamp`)."""
    pieces: tuple[Piece, ...]
