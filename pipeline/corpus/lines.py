"""From bytes to lines of text, with what is wrong with them."""

from collections.abc import Iterator

BYTE_ORDER_MARK = b"\xef\xbb\xbf"
NOT_UTF8 = "not UTF-8"


def lines(chunks: Iterator[bytes], limit: int) -> Iterator[tuple[bytes | None, int]]:
    """Each line without its end, and its size; of a line over `limit` only the size."""
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


def csv_lines(lines: Iterator[tuple[bytes | None, int]], from_start: bool) -> Iterator[str]:
    """Each line as text, with its end; a byte that is no UTF-8 becomes a lone surrogate, which rejects its row and no
    other."""
    for index, (line, _) in enumerate(lines):
        assert line is not None
        if index == 0 and from_start:
            line = line.removeprefix(BYTE_ORDER_MARK)
        yield line.decode(errors="surrogateescape") + "\n"


def decoded(data: bytes) -> str | UnicodeDecodeError:
    """The text, or why there is none."""
    try:
        return data.decode()
    except UnicodeDecodeError as error:
        return error


def bad_byte(error: UnicodeDecodeError) -> str:
    """Which byte is at fault, and where."""
    return f"byte 0x{error.object[error.start]:02x} at byte {error.start}"
