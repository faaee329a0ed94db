"""Text of other encodings than UTF-8, made into UTF-8 as it is read."""

import codecs
from collections.abc import Iterator

from pipeline.errors import CorpusError

UTF8 = "utf-8"
_MARKS = {
    b"\xff\xfe\0\0": "utf-32",
    b"\0\0\xfe\xff": "utf-32",
    b"\xff\xfe": "utf-16",
    b"\xfe\xff": "utf-16",
}


def transcoded(chunks: Iterator[bytes], encoding: str, path: str) -> Iterator[bytes]:
    """The text of `chunks` as UTF-8; what is none in `encoding` becomes the byte 0xff, which is no UTF-8 either.

    Raises `CorpusError`, naming `path`, where the encoding can go on no more.
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
    """The encoding whose byte order mark stands at the start; None for UTF-8 or where there is none."""
    return next((name for mark, name in _MARKS.items() if start.startswith(mark)), None)


def _bad_byte(error: UnicodeError) -> tuple[str | bytes, int]:
    if isinstance(error, UnicodeDecodeError):
        return "\udcff", error.end
    assert isinstance(error, UnicodeEncodeError)
    return b"\xff" * (error.end - error.start), error.end


codecs.register_error("sllm-bad-byte", _bad_byte)
