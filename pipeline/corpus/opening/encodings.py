"""Encodings: whether bytes are text, and conversion of text to UTF-8."""

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
    """The text of `chunks` as UTF-8. Bytes that are invalid in `encoding` become 0xff, which is invalid in UTF-8 too.

    Raises `CorpusError` that names `path`, where the rest cannot be decoded.
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
    """Whether the bytes are UTF-8, possibly cut inside a character, without unusual control characters."""
    try:
        text = codecs.getincrementaldecoder("utf-8")().decode(head)
    except UnicodeDecodeError:
        return False
    return not _CONTROL.search(text)


def utf16_without_byte_order_mark(head: bytes) -> str | None:
    """The encoding of UTF-16 text without a byte order mark that is mostly ASCII: every second byte is zero."""
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
