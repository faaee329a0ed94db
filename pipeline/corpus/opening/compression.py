"""Compressed files: recognition and decompression."""

import bz2
import lzma
import zlib
from collections.abc import Callable, Iterator
from typing import Literal, Protocol

import pyarrow as pa
import zstandard

from pipeline.corpus.opening.restart_points import (
    NotingDecoder,
    RestartPoint,
    RestartPoints,
    inflated_from,
)
from pipeline.errors import CorpusError

Compression = Literal["", "gzip", "zstd", "bz2", "xz", "lz4"]
CHUNK_BYTES = 2**20
ZSTD_SLICE_BYTES = 2**10
"""Bytes that go into zstd at once: a block of 4 of them may hold 128 KiB of text, so these hold at most 32 MiB."""
LARGEST_WINDOW = 2**31
"""Bytes of memory that zstd and xz may take for their window: `zstd --long=31` has to be read."""

COMPRESSION_SUFFIXES: dict[str, Compression] = {
    "gz": "gzip",
    "gzip": "gzip",
    "bgz": "gzip",
    "zst": "zstd",
    "zstd": "zstd",
    "bz2": "bz2",
    "bzip2": "bz2",
    "xz": "xz",
    "lzma": "xz",
    "lz4": "lz4",
}

_COMPRESSION_MAGIC: tuple[tuple[bytes, Compression], ...] = (
    (b"\x1f\x8b\x08", "gzip"),
    (b"\x28\xb5\x2f\xfd", "zstd"),
    (b"\xfd7zXZ\x00", "xz"),
    (b"\x04\x22\x4d\x18", "lz4"),
)


def compression_of(head: bytes) -> Compression:
    """The compression of these bytes, by their magic number."""
    for magic, compression in _COMPRESSION_MAGIC:
        if head.startswith(magic):
            return compression
    if head[:3] == b"BZh" and head[4:10] in (b"1AY&SY", b"\x17rE8P\x90"):
        return "bz2"
    # A skippable frame, which zstd and lz4 share: the next frame decides.
    if len(head) >= 8 and head[1:4] == b"\x2a\x4d\x18" and 0x50 <= head[0] <= 0x5F:
        return compression_of(head[8 + int.from_bytes(head[4:8], "little") :]) or "zstd"
    return ""


def decompressed(
    stored: Iterator[bytes],
    compression: Compression,
    path: str,
    points: RestartPoints | None = None,
    start: RestartPoint | None = None,
) -> Iterator[bytes]:
    """The decompressed bytes of one stream (member, frame) or of several in sequence.

    Of gzip, `points` collects points at which it can be read again, and `stored` may begin at one, `start`. Raises
    `CorpusError`, naming `path`, where they are damaged or end too early.
    """
    done = 0
    try:
        if start is not None:
            text = inflated_from(start, stored, lambda rest: _text(rest, "gzip"))
        else:
            text = _lz4_text(stored) if compression == "lz4" else _text(stored, compression, points)
        for chunk in text:
            done += len(chunk)
            if chunk:
                yield chunk
    except (EOFError, zlib.error, zstandard.ZstdError, lzma.LZMAError, OSError) as error:
        if isinstance(error, EOFError):
            raise CorpusError(
                f"input {path!r} is truncated: its {compression} data stops after {done} bytes of text; "
                f"fetch or make it again"
            ) from error
        raise CorpusError(
            f"input {path!r} is damaged after {done} bytes of text: {error}; fetch or make it again"
        ) from error


def _text(
    stored: Iterator[bytes], compression: Compression, points: RestartPoints | None = None
) -> Iterator[bytes]:
    """Raises `EOFError` where the last stream has no end. No chunk is much over `CHUNK_BYTES`, whatever is stored: a
    few bytes may hold gigabytes."""
    if compression == "zstd":
        yield from _gathered(_streams(_sliced(stored, ZSTD_SLICE_BYTES), _ZstdDecoder))
    else:
        makers: dict[str, Callable[[], _Decoder]] = {
            "gzip": _GzipDecoder if points is None else lambda: NotingDecoder(points),
            "bz2": bz2.BZ2Decompressor,
            "xz": _xz_decoder,
        }
        # gzip and xz allow zero bytes after a stream.
        yield from _streams(stored, makers[compression], has_padding=compression in ("gzip", "xz"))


class _Decoder(Protocol):
    """Of one stream."""

    @property
    def eof(self) -> bool: ...
    @property
    def needs_input(self) -> bool: ...
    @property
    def unused_data(self) -> bytes: ...
    def decompress(self, data: bytes, max_length: int) -> bytes: ...


def _streams(
    stored: Iterator[bytes], make: Callable[[], _Decoder], has_padding: bool = False
) -> Iterator[bytes]:
    decoder: _Decoder | None = None
    pending = b""
    is_first = True
    while True:
        if not pending and (decoder is None or decoder.needs_input):
            pending = next(stored, b"")
            if not pending:
                break
        if decoder is None:
            if has_padding and not is_first:
                pending = pending.lstrip(b"\0")
            if not pending:
                continue
            decoder, is_first = make(), False
        chunk = decoder.decompress(pending, CHUNK_BYTES)
        pending = b""
        if decoder.eof:
            pending, decoder = decoder.unused_data, None
        yield chunk
    if decoder is not None:
        raise EOFError


class _GzipDecoder:
    """As `bz2.BZ2Decompressor`."""

    def __init__(self) -> None:
        self._inflate = zlib.decompressobj(wbits=31)

    def decompress(self, data: bytes, max_length: int) -> bytes:
        return self._inflate.decompress(self._inflate.unconsumed_tail + data, max_length)

    @property
    def eof(self) -> bool:
        return self._inflate.eof

    @property
    def needs_input(self) -> bool:
        return not self._inflate.unconsumed_tail

    @property
    def unused_data(self) -> bytes:
        return self._inflate.unused_data


class _ZstdDecoder:
    """As `bz2.BZ2Decompressor`, but that it bounds no output: what goes in has to be small."""

    needs_input = True

    def __init__(self) -> None:
        self._frame = zstandard.ZstdDecompressor(max_window_size=LARGEST_WINDOW).decompressobj()

    def decompress(self, data: bytes, max_length: int) -> bytes:
        return self._frame.decompress(data)

    @property
    def eof(self) -> bool:
        return self._frame.eof

    @property
    def unused_data(self) -> bytes:
        return self._frame.unused_data


def _xz_decoder() -> lzma.LZMADecompressor:
    return lzma.LZMADecompressor(memlimit=LARGEST_WINDOW)


def _sliced(chunks: Iterator[bytes], size: int) -> Iterator[bytes]:
    for chunk in chunks:
        for start in range(0, len(chunk), size):
            yield chunk[start : start + size]


def _gathered(chunks: Iterator[bytes]) -> Iterator[bytes]:
    """The same bytes in chunks of at least `CHUNK_BYTES`, but for the last."""
    held: list[bytes] = []
    size = 0
    try:
        for chunk in chunks:
            held.append(chunk)
            size += len(chunk)
            if size >= CHUNK_BYTES:
                yield b"".join(held)
                held, size = [], 0
    except (EOFError, zstandard.ZstdError):
        yield b"".join(held)  # the text before the damage
        raise
    yield b"".join(held)


def _lz4_text(stored: Iterator[bytes]) -> Iterator[bytes]:
    """Raises `EOFError` where the last frame has no end."""
    stream = pa.CompressedInputStream(pa.PythonFile(_Readable(stored), "r"), "lz4")
    try:
        while chunk := stream.read(CHUNK_BYTES // 16):
            yield chunk
    except OSError as error:
        raise EOFError if "Truncated" in str(error) else error from error


class _Readable:
    """Chunks as a file, from which `pyarrow` reads."""

    closed = False

    def __init__(self, chunks: Iterator[bytes]) -> None:
        self._chunks = chunks
        self._left = b""

    def read(self, size: int) -> bytes:
        chunk = self._left or next(self._chunks, b"")
        self._left = chunk[size:]
        return chunk[:size]

    def close(self) -> None:
        self.closed = True
