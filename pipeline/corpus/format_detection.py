"""How a file is read: by what its name says and by how its content begins; what does not fit together is refused."""

import csv
import io
import re
from dataclasses import dataclass
from typing import Literal, cast

from pipeline.config import DataConfig
from pipeline.corpus.formats.json_shape import (
    SHAPE_NAMES,
    Shape,
    array_in_object,
    array_remedy,
    complete_lines,
    has_text,
    json_shape,
    shape_remedy,
    share_of_objects,
    without_separators,
)
from pipeline.corpus.known_content import (
    BINARY,
    COMPRESSED_TWICE,
    COMPRESSION_SUFFIXES,
    UNREAD_SUFFIXES,
    UTF16,
    Unread,
    columnar_format_of,
    compression_of,
    is_text,
    page_of,
    unread_format_of,
    utf16_without_mark,
)
from pipeline.corpus.streams import Compression, decompressed, first_bytes
from pipeline.errors import CorpusError

Format = Literal["text", "jsonl", "parquet", "arrow", "csv", "conllu", "datasets"]

HEAD_BYTES = 2**16
"""Bytes at the start of a file (of its uncompressed text) that decide."""

_FORMATS: dict[str, Format] = {
    "jsonl": "jsonl",
    "ndjson": "jsonl",
    "json": "jsonl",
    "parquet": "parquet",
    "pq": "parquet",
    "arrow": "arrow",
    "feather": "arrow",
    "csv": "csv",
    "tsv": "csv",
    "tab": "csv",
    "psv": "csv",
    "conllu": "conllu",
}
_DELIMITERS = {"tsv": "\t", "tab": "\t", "psv": "|"}
_TEXT = re.compile(
    r"txt|text|md|markdown|mdx|rst|rest|adoc|org|tex|bib|log|html|htm|xhtml|xml|svg|css|scss|less"
    r"|py|pyi|pyx|ipynb|js|mjs|cjs|ts|tsx|jsx|vue|c|h|cc|cpp|cxx|hpp|hh|cu|java|kt|scala|go|rs|rb"
    r"|php|pl|pm|r|jl|lua|swift|m|mm|cs|fs|vb|hs|ml|mli|clj|el|lisp|scm|erl|ex|exs|sh|bash|zsh"
    r"|fish|bat|ps1|sql|yaml|yml|toml|ini|cfg|conf|cmake|mk|gradle|proto|diff|patch|srt|vtt|po"
    r"|json5"
)
FORMAT_NAMES: dict[str, str] = {
    "text": "plain text",
    "jsonl": "JSON lines",
    "parquet": "Parquet",
    "arrow": "Arrow",
    "csv": "CSV",
    "conllu": "CoNLL-U",
}
_NUMBERED = re.compile(r"([a-z]+[a-z0-9]*?)(?:~|[-_ (#]+\d[\d\-_ ()of]*)?")


@dataclass(frozen=True)
class Reading:
    """How one file is read."""

    format: Format
    compression: Compression
    delimiter: str = ","
    note: str = ""
    """Where name and content disagree and the content decides: which does what."""
    has_rows: bool = True
    """Not so for CSV of only a header line."""


@dataclass(frozen=True)
class _Name:
    """What the suffixes of a name say, the last that says something first."""

    format: Format | None = None
    compression: Compression = ""
    unread: Unread | None = None
    all_formats: frozenset[Format] = frozenset()
    delimiter: str = ","


def detect(path: str, name: str, data: DataConfig) -> Reading | None:
    """How to read the file at `path`; None where it is empty.

    Raises `CorpusError` for a format that is not read, and where name and content contradict each other.
    """
    stored = first_bytes(path, HEAD_BYTES)
    said = _of_name(name)
    if not stored:
        return None
    compression = compression_of(stored)
    if not compression and said.compression == "xz" and stored[:3] == b"\x5d\x00\x00":
        compression = "xz"  # LZMA before xz
    head, is_whole = _head(path, stored, compression)
    notes = []
    if said.compression != compression:
        if said.compression and not compression and not (is_text(head) or columnar_format_of(head)):
            raise CorpusError(
                f"input {path!r} is not what its name says, {said.compression}: it is damaged, or a part of a file "
                f"that was cut; fetch it again, or join the parts"
            )
        notes.append(f"is {compression or 'not compressed'}, whatever its name says")
    if compression and compression_of(head):
        raise _unread(path, COMPRESSED_TWICE)
    chosen = _chosen(path, head, is_whole, said, data)
    if compression and chosen in ("parquet", "arrow"):
        raise CorpusError(f"input {path!r}: a {chosen} file is read as it is; uncompress it first")
    if data.format == "auto" and said.format is not None and said.format != chosen:
        notes.append(f"is {FORMAT_NAMES[chosen]}, though its name says {FORMAT_NAMES[said.format]}")
    if chosen != "csv":
        return Reading(chosen, compression, note=" and ".join(notes))
    text = head.decode(data.encoding, errors="replace").removeprefix("\ufeff")
    delimiter = _delimiter(path, text, said, data)
    is_header = is_whole and len(text.strip().splitlines()) == 1
    has_rows = not (is_header and data.text_field in next(iter(_rows(text.strip(), delimiter, 1)), []))
    return Reading(chosen, compression, delimiter, " and ".join(notes), has_rows)


def named_reading(name: str, data: DataConfig) -> Reading:
    """How an empty file would be read: by its name alone."""
    said = _of_name(name)
    format_ = (said.format or "text") if data.format == "auto" else cast(Format, data.format)
    return Reading(format_, "", said.delimiter)


def _of_name(name: str) -> _Name:
    said = _Name()
    formats: list[Format] = []
    compression: Compression = ""
    for suffix in reversed(name.rpartition("/")[2].lower().split(".")[1:]):
        match = _NUMBERED.fullmatch(suffix.strip())
        word = suffix if match is None or suffix in COMPRESSION_SUFFIXES else match[1]
        if word in COMPRESSION_SUFFIXES and not formats and said.unread is None:
            compression = compression or COMPRESSION_SUFFIXES[word]
        elif word in UNREAD_SUFFIXES and not formats:
            return _Name(None, compression, UNREAD_SUFFIXES[word])
        elif word in _FORMATS:
            if not formats:
                said = _Name(delimiter=_DELIMITERS.get(word, ","))
            formats.append(_FORMATS[word])
        elif _TEXT.fullmatch(word):
            formats.append("text")
    return _Name(formats[0] if formats else None, compression, None, frozenset(formats), said.delimiter)


def _head(path: str, stored: bytes, compression: Compression) -> tuple[bytes, bool]:
    """The first bytes of the text, and whether they are all; what is damaged is for the survey to say."""
    if not compression:
        return stored, len(stored) < HEAD_BYTES
    for size in (HEAD_BYTES, 4 * 2**20):  # a block of bzip2 or lz4 gives nothing before it is whole
        if size > HEAD_BYTES:
            stored = first_bytes(path, size)
        head = b""
        try:
            for chunk in decompressed(iter([stored]), compression, path):
                head += chunk
                if len(head) >= HEAD_BYTES:
                    return head[:HEAD_BYTES], False
        except CorpusError:
            if head or len(stored) < size:
                return head, False
            continue
        return head, True
    return b"", False


def _unread(path: str, kind: Unread) -> CorpusError:
    return CorpusError(f"input {path!r} is {kind.what}, which is not read; {kind.remedy}")


def _chosen(path: str, head: bytes, is_whole: bool, said: _Name, data: DataConfig) -> Format:
    """The format; it decides, in this order: `data.format`, magic numbers, the name, the first lines."""
    given = None if data.format == "auto" else cast(Format, data.format)
    encoding = data.encoding
    if given == "text" or (given is not None and encoding != "utf-8"):
        return given
    columnar = columnar_format_of(head)
    if columnar:
        if given in (None, columnar):
            return columnar
        raise CorpusError(
            f"input {path!r} is {FORMAT_NAMES[columnar]}, and data.format says {given}; "
            f"set data.format={columnar} or auto"
        )
    unread = unread_format_of(head)
    if unread is None and encoding == "utf-8" and head[:2] in (b"\xff\xfe", b"\xfe\xff"):
        unread = UTF16
    if unread is None and encoding == "utf-8" and b"\0" in head:
        unread = utf16_without_mark(head)
    if unread is None and encoding == "utf-8" and b"\0" in head and not is_text(head):
        unread = None if _is_utf8(head) or given or said.format in ("parquet", "arrow") else BINARY
    if unread is not None:
        raise _unread(path, unread)
    if given is None and said.unread is not None:
        raise _unread(path, Unread(f"{said.unread.what} by its name", said.unread.remedy))
    text = without_separators(head.decode(encoding, errors="replace").removeprefix("\ufeff"))
    wanted = given or said.format
    if wanted in ("parquet", "arrow") and head:
        other = page_of(text) or (None if is_text(head) else BINARY)
        raise CorpusError(
            f"input {path!r} is no {FORMAT_NAMES[wanted]} file, as {'data.format' if given else 'its name'} says, but "
            f"{other.what if other else 'text'}; {other.remedy if other else 'name its format in data.format'}"
        )
    if wanted in ("jsonl", "csv") and (page := page_of(text)):
        raise CorpusError(f"input {path!r} is {page.what}, and no {FORMAT_NAMES[wanted]}; {page.remedy}")
    shape = json_shape(text, is_whole)
    if wanted == "jsonl" or given is not None:
        if wanted == "jsonl":
            _check_json_lines(path, text, shape, is_whole, given is not None, data.text_field)
        return cast(Format, wanted)
    if wanted == "csv" and shape != "lines":
        return "csv"
    if wanted == "conllu":
        return "conllu"
    if shape == "lines" and "jsonl" in said.all_formats:
        return "jsonl"
    if shape == "lines" and wanted is None and has_text(text, data.text_field):
        return "jsonl"
    if shape == "none" and wanted is None and '{"' in text and share_of_objects(text, is_whole) > 0.5:
        shape = "unsure"
    if shape != "none":
        what = SHAPE_NAMES.get(shape, "JSON lines")
        raise CorpusError(
            f"input {path!r} looks like {what}, which its name does not say; {shape_remedy(path, shape)}, or set "
            f"data.format=text to read it as one document"
        )
    if _looks_like_csv(text, data.text_field):
        raise CorpusError(
            f"input {path!r} looks like CSV with a column {data.text_field!r}, which its name does not say; set "
            f"data.format=csv, or data.format=text to read it as one document"
        )
    return "text"


def _check_json_lines(
    path: str, text: str, shape: Shape, is_whole: bool, is_told: bool, text_field: str
) -> None:
    if shape in SHAPE_NAMES:
        other = "" if is_told else ", or set data.format=text to read it as one document"
        raise CorpusError(
            f"input {path!r} is {SHAPE_NAMES[shape]}, not a document a line; {shape_remedy(path, shape)}{other}"
        )
    wrapped = array_in_object(text, text_field) if is_whole and shape == "lines" else None
    if wrapped is not None:
        raise CorpusError(
            f"input {path!r} is one JSON object with its documents in the array {'.'.join(wrapped)!r}, not a document "
            f"a line; {array_remedy(path, wrapped)}"
        )
    lines = [line for line in complete_lines(text, is_whole) if line.strip()]
    if lines and not is_told and not any(line.lstrip()[0] in '{["' for line in lines) and len(lines) > 1:
        what = "CSV" if _looks_like_csv(text, "text") else "plain text"
        raise CorpusError(
            f"input {path!r} is no JSON lines, as its name says, but {what}: no line begins a JSON object; set "
            f"data.format={'csv' if what == 'CSV' else 'text'} to read it so"
        )


def _is_utf8(head: bytes) -> bool:
    return is_text(bytes(byte for byte in head if byte >= 32 or byte in b"\n\r\t"))


def _rows(text: str, delimiter: str, count: int) -> list[list[str]]:
    try:
        reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter)
        return [row for _, row in zip(range(count), reader, strict=False)]
    except csv.Error:
        return []


def _delimiter(path: str, text: str, said: _Name, data: DataConfig) -> str:
    """`data.delimiter`, or what the name says. Raises `CorpusError` where the header has another one."""
    if data.delimiter is not None:
        return data.delimiter
    cells = {one: next(iter(_rows(text, one, 1)), []) for one in (said.delimiter, *",\t;|")}
    if data.text_field in cells[said.delimiter]:
        return said.delimiter
    if text.startswith("sep=") and len(text.splitlines()[0]) == 5:
        raise CorpusError(
            f"input {path!r} begins with a line {text[:5]!r} for Excel; remove that line and set "
            f"data.delimiter={text[4]!r}"
        )
    for other, row in cells.items():
        if data.text_field in row or (len(row) > 1 and len(cells[said.delimiter]) == 1):
            raise CorpusError(
                f"input {path!r} has no column {data.text_field!r} with {said.delimiter!r} between its cells, but its "
                f"header has {', '.join(map(repr, row[:10]))} with {other!r}; set data.delimiter={other!r}"
                + ("" if data.text_field in row else ", and data.text_field to the column with the text")
            )
    return said.delimiter


def _looks_like_csv(text: str, field: str) -> bool:
    first = text.split("\n", 1)[0]
    if field not in first:
        return False
    for delimiter in ",;\t|":
        rows = _rows(text, delimiter, 3)
        if (
            len(rows) > 1
            and field in rows[0]
            and len(rows[0]) > 1
            and all(0 < len(cell) < 64 for cell in rows[0])
            and len(rows[1]) == len(rows[0])
        ):
            return True
    return False


def starts_like_ours(path: str) -> bool:
    """Whether a `manifest.json` or `job.json` is one that this program wrote."""
    start = first_bytes(path, 4096)
    return b'"identity"' in start and (b'"format_version"' in start or b'"job"' in start)
