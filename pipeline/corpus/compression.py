"""Compressed files: recognition and decompression."""

import bz2
import lzma
import zlib
from collections.abc import Iterator
from typing import Any, Literal

import pyarrow as pa
import zstandard

from pipeline.errors import CorpusError

Compression = Literal["", "gzip", "zstd", "bz2", "xz", "lz4"]
CHUNK_BYTES = 2**20

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


def decompressed(stored: Iterator[bytes], compression: Compression, path: str) -> Iterator[bytes]:
    """The decompressed bytes of one stream (member, frame) or of several in sequence.

    Raises `CorpusError`, naming `path`, where they are damaged or end too early.
    """
    done = 0
    try:
        for chunk in _lz4_text(stored) if compression == "lz4" else _text(stored, compression):
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


def _text(stored: Iterator[bytes], compression: Compression) -> Iterator[bytes]:
    """Raises `EOFError` where the last stream has no end."""
    decoder: Any = None
    pending = b""
    is_first = True
    while True:
        if not pending and getattr(decoder, "needs_input", True):
            pending = next(stored, b"")
            if not pending:
                break
        if decoder is None:
            # gzip and xz allow zero bytes after a stream.
            if compression in ("gzip", "xz") and not is_first:
                pending = pending.lstrip(b"\0")
            if not pending:
                continue
            decoder, is_first = _decoder(compression), False
        # A few bytes of bzip2 or xz may decompress to gigabytes: the output comes in parts.
        bound = (CHUNK_BYTES,) if compression in ("bz2", "xz") else ()
        chunk = decoder.decompress(pending, *bound)
        pending = b""
        if decoder.eof:
            pending, decoder = decoder.unused_data, None
        yield chunk
    if decoder is not None:
        raise EOFError


def _decoder(compression: Compression) -> Any:
    if compression == "gzip":
        return zlib.decompressobj(wbits=31)
    if compression == "bz2":
        return bz2.BZ2Decompressor()
    if compression == "xz":
        return lzma.LZMADecompressor()
    return zstandard.ZstdDecompressor(max_window_size=2**31).decompressobj()


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
