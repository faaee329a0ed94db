"""`sllm segment`: the ends of the sentences of documents in JSONL, with any segmenter."""

import contextlib
import dataclasses
import gzip
import json
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import IO, Any, cast

import segmenters
from pipeline.config import DataConfig
from pipeline.config.paths import is_url, resolved_options
from pipeline.corpus.encodings import other_encoding
from pipeline.corpus.format_detection import FORMAT_NAMES, HEAD_BYTES, detect
from pipeline.corpus.formats.fields import MISSING, field_value, json_value, repeated_key, shortly
from pipeline.corpus.formats.lines import RECORD_SEPARATOR, decoded, lines, without_marks
from pipeline.corpus.known_content import (
    COMPRESSION_SUFFIXES,
    columnar_format_of,
    compression_of,
    utf16_without_mark,
)
from pipeline.corpus.streams import Compression, first_bytes, text_chunks
from pipeline.errors import ConfigError, CorpusError
from pipeline.output_files import written_aside
from pipeline.unique_keys import read_value
from segmenters import Segmenter, SegmenterError

BATCH_CHARACTERS = 2**20
"""Characters of text that are segmented at once."""
MAX_REJECTED_FRACTION: float = DataConfig().max_rejected_fraction
"""Share of the lines of a file that may be no documents, as in `sllm prepare`."""


@dataclasses.dataclass(frozen=True)
class Segmented:
    """Counts of what was segmented, and of what was rejected."""

    documents: int
    characters: int
    sentences: int
    rejected: int = 0
    """Lines that are no documents, and are left out."""
    first_rejected: str | None = None
    """File, line and what is wrong with the first of them."""


def build(name: str, options: Iterable[str] = ()) -> Segmenter:
    """The segmenter of this name, with options as `key=YAML value`; `ConfigError` where there is none."""
    parsed: dict[str, Any] = {}
    for option in options:
        key, separator, value = option.partition("=")
        if not separator or not key:
            raise ConfigError(f"segmenter option {option!r} must look like key=value")
        if key in parsed:
            raise ConfigError(f"segmenter option {key!r} is given twice: give it once")
        parsed[key] = read_value(value, f"segmenter option {option!r}")
    try:
        return segmenters.load(name, **resolved_options(parsed))
    except SegmenterError as error:
        raise ConfigError(str(error)) from error


def segment_file(
    segmenter: str,
    options: Iterable[str],
    source: str | Path,
    output: str | Path,
    text_field: str = "text",
    id_field: str = "id",
) -> Segmented:
    """Write `{"id", "ends"}` for each document `{"id", "text", ...}` of `source`, in its order.

    `source` is plain or compressed, as its content says; an output whose name ends in `.gz` is gzip. The output appears
    whole or not at all. A line that is no document is left out and counted. Raises `ConfigError` for an unknown
    segmenter or option and for an output that cannot be written, `CorpusError` for a file that cannot be read, or where
    more lines than `MAX_REJECTED_FRACTION` are no documents.
    """
    chosen = build(segmenter, options)
    counts = {"documents": 0, "characters": 0, "sentences": 0}
    rejected: list[CorpusError] = []
    num_rejected = 0

    def reject(error: CorpusError) -> None:
        nonlocal num_rejected
        num_rejected += 1
        if not rejected:
            rejected.append(error)

    documents = read_documents(source, text_field, id_field, reject)
    with opened_output(output, source) as file:
        for batch in _batches(documents):
            for (identity, text), ends in zip(batch, chosen.split([text for _, text in batch]), strict=True):
                line = json.dumps({"id": identity, "ends": ends.tolist()}, ensure_ascii=True)
                file.write(line.encode() + b"\n")
                counts["documents"] += 1
                counts["characters"] += len(text)
                counts["sentences"] += len(ends)
        num_lines = counts["documents"] + num_rejected
        if num_rejected > MAX_REJECTED_FRACTION * num_lines:
            raise CorpusError(
                f"{num_rejected} of {num_lines} lines are no documents, more than {MAX_REJECTED_FRACTION:.0%}; "
                f"the first: {rejected[0]}"
            )
    return Segmented(**counts, rejected=num_rejected, first_rejected=str(rejected[0]) if rejected else None)


def _raise(error: CorpusError) -> None:
    raise error


def read_documents(
    source: str | Path,
    text_field: str = "text",
    id_field: str = "id",
    reject: Callable[[CorpusError], None] = _raise,
) -> Iterator[tuple[Any, str]]:
    """Id and text of each line of a JSONL file or URL, plain or compressed; empty lines are passed over.

    A line that is no document goes to `reject`, as a `CorpusError` naming the file, the line, and what is wrong with
    it; by default that is raised. A file that cannot be read, or is no JSON lines, always raises one.
    """
    path = str(source)
    chunks = text_chunks(path, _compression(path, text_field))
    for number, (line, _) in enumerate(lines(chunks, limit=2**62), 1):
        if not line or line.isspace():
            continue
        try:
            document = _document(line, f"{path}:{number}", text_field, id_field)
        except CorpusError as error:
            reject(error)
            continue
        yield document


def _compression(path: str, text_field: str) -> Compression:
    """How the JSON lines are compressed. Raises `CorpusError` for a file of another format or encoding."""
    if Path(path).is_dir():
        raise CorpusError(f"{path} is a folder: name a file of JSON lines")
    stored = first_bytes(path, HEAD_BYTES)
    compression = compression_of(stored)
    columnar = columnar_format_of(stored)
    if columnar:
        raise CorpusError(f"{path} is {FORMAT_NAMES[columnar]}: write its rows as JSON lines")
    if not compression and (other_encoding(stored) or utf16_without_mark(stored)):
        raise CorpusError(f"{path} is UTF-16 or UTF-32: make it UTF-8, for example with iconv")
    detect(path, path.rpartition("/")[2], DataConfig(format="jsonl", text_field=text_field))
    return compression


def _document(line: bytes, where: str, text_field: str, id_field: str) -> tuple[Any, str]:
    text = decoded(without_marks(line).removeprefix(RECORD_SEPARATOR))
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
        raise CorpusError(f"{where}: not a document: needs a string in {text_field!r}")
    identity = field_value(document, id_field)
    if identity is MISSING:
        raise CorpusError(f"{where}: not a document: needs {id_field!r}")
    return identity, found


def _batches(documents: Iterable[tuple[Any, str]]) -> Iterator[list[tuple[Any, str]]]:
    batch: list[tuple[Any, str]] = []
    size = 0
    for document in documents:
        batch.append(document)
        size += len(document[1])
        if size >= BATCH_CHARACTERS:
            yield batch
            batch, size = [], 0
    if batch:
        yield batch


def output_file(output: str | Path) -> Path:
    """Where to write one file. Raises `ConfigError` for a URL, a folder, and what is no regular file."""
    path = Path(output)
    if is_url(str(output)):
        raise ConfigError(f"cannot write {output}: it is a URL; name a file of this machine")
    if path.is_dir() or not path.name:
        raise ConfigError(f"cannot write {path}: it is a folder; name a file in it")
    if path.exists() and not path.is_file():
        raise ConfigError(
            f"cannot write {path}: it is no regular file, and would be replaced by one; name another file"
        )
    return path


@contextlib.contextmanager
def opened_output(output: str | Path, source: str | Path) -> Iterator[IO[bytes]]:
    """A file to write to (gzip where `output` ends in `.gz`), which appears at `output` whole or not at all.

    Raises `ConfigError` where it cannot be written, and where it would replace `source`, the input.
    """
    path = output_file(output)
    if path.exists() and Path(source).exists() and path.samefile(source):
        raise ConfigError(f"{path} is the input, and would be replaced: name another file")
    compression = COMPRESSION_SUFFIXES.get(path.suffix.removeprefix(".").lower(), "")
    if compression not in ("", "gzip"):
        raise ConfigError(
            f"cannot write {path}: {compression}, as its name says, is not written; name it without, or with .gz"
        )
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with (
            written_aside(path) as aside,
            cast("IO[bytes]", gzip.open(aside, "wb") if compression else aside.open("wb")) as file,
        ):
            yield file
    except OSError as error:
        raise ConfigError(f"cannot write {path}: {error.strerror or error}") from error


def list_segmenters() -> None:
    """Print every segmenter by name: what it is, or what it lacks here, and its options with their defaults."""
    for name in sorted(segmenters.names()):
        try:
            chosen = segmenters.load(name)
        except SegmenterError as error:
            print(f"{name}\n    not usable here: {error}")
            continue
        print(f"{name}\n    {(type(chosen).__doc__ or '').splitlines()[0]}")
        for field in dataclasses.fields(chosen):
            print(f"    --option {field.name}={getattr(chosen, field.name)}")
