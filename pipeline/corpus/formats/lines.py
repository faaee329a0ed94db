"""From bytes to lines of text, or the reason why a line is not text."""

from collections.abc import Iterator

from pipeline.errors import CorpusError

BYTE_ORDER_MARK = b"\xef\xbb\xbf"
RECORD_SEPARATOR = b"\x1e"
"""Before each value of a JSON text sequence (RFC 7464)."""
NOT_UTF8 = "not UTF-8"


def lines(chunks: Iterator[bytes], limit: int) -> Iterator[tuple[bytes | None, int]]:
    """Each line without its end, and its size in bytes; for a line over `limit` only the size."""
    held: list[bytes] = []
    size = 0
    for chunk in chunks:
        *complete, rest = chunk.split(b"\n")
        for line in complete:
            size += len(line)
            held.append(line)
            yield (b"".join(held) if size <= limit else None), size
            held, size = [], 0
        size += len(rest)
        held = [*held, rest] if size <= limit else []
    if size:
        yield (b"".join(held) if size <= limit else None), size


def line_blocks(chunks: Iterator[bytes], path: str, max_document_bytes: int) -> Iterator[bytes]:
    """The same bytes in blocks of whole lines, which end with `\\n`, `\\r\\n` or `\\r`; the last line gets an end.

    Raises `CorpusError`, naming `path`, for a line of over twice `max_document_bytes` (or 64 MiB, if that is more).
    """
    held: list[bytes] = []
    size, limit = 0, max(2 * max_document_bytes, 2**26)
    for chunk in chunks:
        end = chunk.rfind(b"\n") + 1
        # The character after a carriage return at the end is not known yet.
        end = max(end, chunk.rfind(b"\r", end, len(chunk) - 1) + 1)
        if end:
            yield b"".join([*held, chunk[:end]])
            held, size = [], 0
        held.append(chunk[end:])
        size += len(held[-1])
        if size > limit:
            raise CorpusError(
                f"input {path!r} has a line of more than {limit} bytes, twice data.max_document_bytes: fetch or make "
                "it again, or raise that"
            )
    rest = b"".join(held)
    if rest:
        yield rest if rest.endswith((b"\n", b"\r")) else rest + b"\n"


def count_lines(content: bytes) -> int:
    """Number of line ends in whole lines: `\\n`, `\\r\\n` or `\\r`."""
    return content.count(b"\n") + (content.count(b"\r") - content.count(b"\r\n") if b"\r" in content else 0)


def without_byte_order_marks(line: bytes) -> bytes:
    """The line without leading byte order marks, which are inside files joined by `cat`."""
    while line.startswith(BYTE_ORDER_MARK):
        line = line.removeprefix(BYTE_ORDER_MARK)
    return line


def decoded(data: bytes) -> str | UnicodeDecodeError:
    """The text, or the reason why it cannot be decoded."""
    try:
        return data.decode()
    except UnicodeDecodeError as error:
        return error


def bad_byte(error: UnicodeDecodeError) -> str:
    """The invalid byte and its position."""
    return f"byte 0x{error.object[error.start]:02x} at byte {error.start}"
