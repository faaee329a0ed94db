"""Documents of one JSONL file, with an id and a text each, in order; for whole corpora see `inputs`."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from pipeline.config import DataConfig
from pipeline.corpus.format_detection import START_BYTES, detect
from pipeline.corpus.formats.fields import MISSING, field_value, json_value, repeated_key, shortly
from pipeline.corpus.formats.lines import RECORD_SEPARATOR, decoded, lines, without_byte_order_marks
from pipeline.corpus.formats.table import format_by_signature
from pipeline.corpus.opening.compression import Compression, compression_of
from pipeline.corpus.opening.encodings import other_encoding, utf16_without_byte_order_mark
from pipeline.corpus.opening.streams import first_bytes, text_chunks
from pipeline.errors import CorpusError

LARGEST_LINE = 2**28
"""Bytes."""


def _raise(error: CorpusError) -> None:
    raise error


def read_documents(
    source: str | Path,
    text_field: str = "text",
    id_field: str = "id",
    reject: Callable[[CorpusError], None] = _raise,
    on_stored: Callable[[bytes], object] = lambda stored: None,
) -> Iterator[tuple[Any, str]]:
    """Id and text of each line of a JSONL file or URL, plain or compressed; empty lines are skipped.

    For a line that is not a document, `reject` is called with a `CorpusError` that names file, line and reason; by
    default it is raised. `on_stored` is called with the stored bytes as they are read. A file that cannot be read or is
    not JSON lines always raises a `CorpusError`.
    """
    path = str(source)
    chunks = text_chunks(path, _compression(path, text_field), on_stored)
    for number, (line, size) in enumerate(lines(chunks, LARGEST_LINE), 1):
        if line is None:
            reject(CorpusError(f"{path}:{number}: a line of {size} bytes; at most {LARGEST_LINE} are read"))
            continue
        if not line or line.isspace():
            continue
        try:
            document = _document(line, f"{path}:{number}", text_field, id_field)
        except CorpusError as error:
            reject(error)
            continue
        yield document


def _compression(path: str, text_field: str) -> Compression:
    """Compression of a file of JSON lines. Raises `CorpusError` for a file of another format or encoding."""
    if Path(path).is_dir():
        raise CorpusError(f"{path} is a folder: name a file of JSON lines")
    stored = first_bytes(path, START_BYTES)
    compression = compression_of(stored)
    binary = format_by_signature(stored)
    if binary is not None:
        raise CorpusError(f"{path} is {binary.title}: write its rows as JSON lines")
    if not compression and (other_encoding(stored) or utf16_without_byte_order_mark(stored)):
        raise CorpusError(f"{path} is UTF-16 or UTF-32: make it UTF-8, for example with iconv")
    detect(path, path.rpartition("/")[2], DataConfig(format="jsonl", text_field=text_field))
    return compression


def _document(line: bytes, where: str, text_field: str, id_field: str) -> tuple[Any, str]:
    text = decoded(without_byte_order_marks(line).removeprefix(RECORD_SEPARATOR))
    if not isinstance(text, str):
        raise CorpusError(f"{where}: not UTF-8 ({text.reason} at byte {text.start})")
    try:
        document = json_value(text)
    except ValueError as error:
        raise CorpusError(f"{where}: not JSON: {error}") from error
    repeated = repeated_key(document, text_field) or repeated_key(document, id_field)
    if repeated is not None:
        raise CorpusError(f"{where}: the key {shortly(repeated)} is in one object twice; remove one of them")
    found = field_value(document, text_field) if isinstance(document, dict) else None
    if not isinstance(found, str):
        raise CorpusError(f"{where}: not a document: it needs a string in {text_field!r}")
    identity = field_value(document, id_field)
    if identity is MISSING:
        raise CorpusError(f"{where}: not a document: it needs {id_field!r}")
    return identity, found
