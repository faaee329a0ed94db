"""Encodings: whether bytes are text, and text of other encodings made into UTF-8 as it is read."""

import codecs
import re
from collections.abc import Iterator

from pipeline.errors import CorpusError

UTF8 = "utf-8"
_CONTROL = re.compile(r"[\x00-\x07\x0e-\x1a\x1c\x1d\x1f]")
_BYTE_ORDER_MARKS = {
    b"\xff\xfe\0\0": "utf-32",
    b"\0\0\xfe\xff": "utf-32",
    b"\xff\xfe": "utf-16",
    b"\xfe\xff": "utf-16",
}


def transcoded(chunks: Iterator[bytes], encoding: str, path: str) -> Iterator[bytes]:
    """The text of `chunks` as UTF-8; what is none in `encoding` becomes the byte 0xff, which is no UTF-8 either.

    Raises `CorpusError`, naming `path`, where the rest cannot be decoded.
    """
    if encoding == UTF8:
        yield from chunks
        return
    decoder = codecs.getincrementaldecoder(encoding)("sllm-bad-byte")
    try:
        for chunk in chunks:
            yield decoder.decode(chunk).encode("utf-8", "sllm-bad-byte")
        yield decoder.decode(b"", final=True).encode("utf-8", "sllm-bad-byte")
    except (UnicodeError, ValueError) as error:
        raise CorpusError(f"input {path!r} cannot be read as data.encoding={encoding}: {error}") from error


def other_encoding(start: bytes) -> str | None:
    """The encoding whose byte order mark the bytes begin with; None for UTF-8 or where there is no mark."""
    return next((name for mark, name in _BYTE_ORDER_MARKS.items() if start.startswith(mark)), None)


def is_text(head: bytes) -> bool:
    """Whether the bytes are UTF-8, perhaps cut off, without control characters that texts do not have."""
    try:
        text = codecs.getincrementaldecoder("utf-8")().decode(head)
    except UnicodeDecodeError:
        return False
    return not _CONTROL.search(text)


def utf16_without_byte_order_mark(head: bytes) -> str | None:
    """The encoding of UTF-16 without a byte order mark, of text that is mostly ASCII: each other byte is zero."""
    pairs = head[: len(head) // 2 * 2]
    zeros = (pairs[0::2].count(0), pairs[1::2].count(0))
    if len(pairs) < 8 or max(zeros) < 0.7 * len(pairs) / 2 or min(zeros) > 0:
        return None
    encoding = "utf-16-le" if zeros[1] else "utf-16-be"
    return None if _CONTROL.search(pairs.decode(encoding, errors="replace")) else encoding


def _bad_byte(error: UnicodeError) -> tuple[str | bytes, int]:
    if isinstance(error, UnicodeDecodeError):
        return "\udcff", error.end
    assert isinstance(error, UnicodeEncodeError)
    return b"\xff" * (error.end - error.start), error.end


codecs.register_error("sllm-bad-byte", _bad_byte)
