"""Detection of the format of a file, by its first bytes, its name and its first lines. Contradictions are errors.

It goes over the table of formats and must not know a single one.
"""

import re
from dataclasses import dataclass

from pipeline.config import DataConfig
from pipeline.corpus.formats.format import CorpusFormat, FileStart, Layout, Resemblance
from pipeline.corpus.formats.table import FORMATS, TEXT, format_by_signature, format_by_suffix
from pipeline.corpus.opening.compression import (
    COMPRESSION_SUFFIXES,
    Compression,
    compression_of,
    decompressed,
)
from pipeline.corpus.opening.encodings import UTF8, is_text, utf16_without_byte_order_mark
from pipeline.corpus.opening.streams import first_bytes
from pipeline.corpus.unread_formats import (
    BINARY,
    COMPRESSED_TWICE,
    UNREAD_SUFFIXES,
    UTF16,
    Unread,
    page_of,
    unread_format_of,
)
from pipeline.errors import CorpusError

START_BYTES = 2**16
"""Bytes at the start of a file, uncompressed, by which its format is recognised."""
_NUMBERED = re.compile(r"([a-z]+[a-z0-9]*?)(?:~|[-_ (#]+\d[\d\-_ ()of]*)?")


@dataclass(frozen=True)
class DetectedFormat:
    """How a file is read."""

    format: CorpusFormat
    compression: Compression
    layout: Layout
    note: str = ""
    """A note for the user where content and name differ."""


@dataclass(frozen=True)
class _Suffixes:
    """Format and compression by the suffixes of a name; of several formats the last one counts."""

    format: CorpusFormat | None
    suffix: str
    """Of the format."""
    all_formats: tuple[CorpusFormat, ...]
    compression: Compression
    unread: Unread | None


def detect(path: str, name: str, data: DataConfig) -> DetectedFormat | None:
    """How to read the file at `path`; None where it is empty.

    Raises `CorpusError` for a format that is not read, and where name and content contradict each other.
    """
    stored = first_bytes(path, START_BYTES)
    suffixes = _suffixes_of(name)
    if not stored:
        return None
    compression = compression_of(stored)
    if not compression and suffixes.compression == "xz" and stored[:3] == b"\x5d\x00\x00":
        compression = "xz"  # LZMA before xz
    content, is_whole = _uncompressed(path, stored, compression)
    notes = []
    if suffixes.compression != compression:
        is_readable = is_text(content) or format_by_signature(content) is not None
        if suffixes.compression and not compression and not is_readable:
            raise CorpusError(
                f"input {path!r} is not what its name says, {suffixes.compression}: it is damaged, or a part of a "
                f"file that was cut; fetch it again, or join the parts"
            )
        notes.append(f"is {compression or 'not compressed'}, whatever its name says")
    if compression and compression_of(content):
        raise _unread_error(path, COMPRESSED_TWICE)
    start = FileStart(path, content, is_whole, suffixes.suffix, data)
    found = _format_of(start, suffixes)
    if compression and found.is_binary:
        raise CorpusError(f"input {path!r}: a {found.title} file is read as it is; uncompress it first")
    if not start.is_given and suffixes.format not in (None, found):
        notes.append(f"is {found.title}, though its name says {suffixes.format and suffixes.format.title}")
    return DetectedFormat(found, compression, found.layout(start), " and ".join(notes))


def detect_by_name(path: str, name: str, data: DataConfig) -> DetectedFormat:
    """How an empty file is read."""
    suffixes = _suffixes_of(name)
    found = (suffixes.format or TEXT) if data.format == "auto" else FORMATS[data.format]
    return DetectedFormat(found, "", found.layout(FileStart(path, b"", True, suffixes.suffix, data)))


def _suffixes_of(name: str) -> _Suffixes:
    formats: list[CorpusFormat] = []
    chosen = ""
    compression: Compression = ""
    for suffix in reversed(name.rpartition("/")[2].lower().split(".")[1:]):
        match = _NUMBERED.fullmatch(suffix.strip())
        word = suffix if match is None or suffix in COMPRESSION_SUFFIXES else match[1]
        if word in COMPRESSION_SUFFIXES and not formats:
            compression = compression or COMPRESSION_SUFFIXES[word]
        elif word in UNREAD_SUFFIXES and not formats:
            return _Suffixes(None, "", (), compression, UNREAD_SUFFIXES[word])
        elif (found := format_by_suffix(word)) is not None:
            chosen = chosen or word
            formats.append(found)
    return _Suffixes(formats[0] if formats else None, chosen, tuple(formats), compression, None)


def _uncompressed(path: str, stored: bytes, compression: Compression) -> tuple[bytes, bool]:
    """The first bytes of the text, and whether there are no more. Damage is reported by the survey, not here."""
    if not compression:
        return stored, len(stored) < START_BYTES
    for size in (START_BYTES, 4 * 2**20):  # a block of bzip2 or lz4 gives no output until it is complete
        if size > START_BYTES:
            stored = first_bytes(path, size)
        content = b""
        try:
            for chunk in decompressed(iter([stored]), compression, path):
                content += chunk
                if len(content) >= START_BYTES:
                    return content[:START_BYTES], False
        except CorpusError:
            if content or len(stored) < size:
                return content, False
            continue
        return content, True
    return b"", False


def _format_of(start: FileStart, suffixes: _Suffixes) -> CorpusFormat:
    """The format, decided in this order by `data.format`, signatures, the name, and the first lines."""
    path, content = start.path, start.content
    given = FORMATS[start.data.format] if start.is_given else None
    if given is not None and (given.is_one_document or start.data.encoding != UTF8):
        return given
    by_signature = format_by_signature(content)
    if by_signature is not None:
        if given in (None, by_signature):
            return by_signature
        raise CorpusError(
            f"input {path!r} is {by_signature.title}, and data.format says {start.data.format}; set "
            f"data.format={by_signature.name} or auto"
        )
    expected = given or suffixes.format
    if (unread := _unread(start, expected)) is not None:
        raise _unread_error(path, unread)
    if given is None and suffixes.unread is not None:
        raise _unread_error(path, Unread(f"{suffixes.unread.what} by its name", suffixes.unread.remedy))
    if expected is None or expected.is_one_document:
        return _by_first_lines(start, suffixes)
    page = page_of(start.text)
    if expected.is_binary and content:
        other = page or (None if is_text(content) else BINARY)
        raise CorpusError(
            f"input {path!r} is no {expected.title} file, as {'data.format' if given else 'its name'} says, but "
            f"{other.what if other else 'text'}; {other.remedy if other else 'name its format in data.format'}"
        )
    if page is not None:
        raise CorpusError(f"input {path!r} is {page.what}, and no {expected.title}; {page.remedy}")
    objection = expected.objection(start)
    return expected if given is not None else _checked_by_lines(start, suffixes, expected, objection)


def _unread(start: FileStart, expected: CorpusFormat | None) -> Unread | None:
    content = start.content
    unread = unread_format_of(content)
    if unread is not None or start.data.encoding != UTF8:
        return unread
    if content[:2] in (b"\xff\xfe", b"\xfe\xff"):
        return UTF16
    if b"\0" not in content:
        return None
    encoding = utf16_without_byte_order_mark(content)
    if encoding is not None:
        return Unread("text in UTF-16 without a byte order mark", f"set data.encoding={encoding}")
    may_be_binary = start.is_given or (expected is not None and expected.is_binary)
    return None if is_text(content) or _is_utf8(content) or may_be_binary else BINARY


def _unread_error(path: str, kind: Unread) -> CorpusError:
    return CorpusError(f"input {path!r} is {kind.what}, which is not read; {kind.remedy}")


def _is_utf8(content: bytes) -> bool:
    return is_text(bytes(byte for byte in content if byte >= 32 or byte in b"\n\r\t"))


def _checked_by_lines(
    start: FileStart, suffixes: _Suffixes, expected: CorpusFormat, objection: str | None
) -> CorpusFormat:
    """The format of the name, unless the first lines are of another format."""
    other, found = _resembled(start, but=expected)
    if found is not None and found.is_certain and other in suffixes.all_formats:
        return other
    if objection is None and (found is None or not found.is_certain):
        return expected
    what, remedy = (found.what, found.remedy) if found else (TEXT.title, f"set data.format={TEXT.name}")
    raise CorpusError(
        f"input {start.path!r} is no {expected.title}, as its name says, but {what}"
        f"{'' if objection is None else f': {objection}'}; {remedy} to read it so"
    )


def _by_first_lines(start: FileStart, suffixes: _Suffixes) -> CorpusFormat:
    """The format of a file whose name has no format or that of plain text."""
    other, found = _resembled(start, but=TEXT)
    if found is None:
        return TEXT
    is_named = other in suffixes.all_formats or (suffixes.format is None and found.has_text_field)
    if found.is_certain and is_named:
        return other
    raise CorpusError(
        f"input {start.path!r} looks like {found.what}, which its name does not say; {found.remedy}, or set "
        f"data.format={TEXT.name} to read it as one document"
    )


def _resembled(start: FileStart, but: CorpusFormat) -> tuple[CorpusFormat, Resemblance | None]:
    """The first format but one that the file resembles, and how."""
    for format_ in FORMATS.values():
        if format_ is not but and (found := format_.resemblance(start)) is not None:
            return format_, found
    return but, None
