"""Bytes of a file: local or fsspec URL, plain, gzip or zstd, in order or a range of them."""

import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, BinaryIO, Literal, cast

import fsspec
import zstandard

from pipeline.corpus.encodings import UTF8, transcoded
from pipeline.errors import CorpusError

Compression = Literal["", "gzip", "zstd"]

CHUNK_BYTES = 2**20


def is_url(path: str) -> bool:
    """Whether fsspec has to open it."""
    return "://" in path


def open_binary(path: str, in_order: bool = False) -> BinaryIO:
    """Open a local file or fsspec URL for reading, from its start to its end only where `in_order` is set.

    Raises `CorpusError` where it cannot be opened.
    """
    try:
        if is_url(path):
            # Web servers then answer one request instead of many, and need not know of ranges.
            options = {"block_size": 0} if in_order and _is_web(path) else {}
            return cast(BinaryIO, fsspec.open(path, "rb", **options).open())
        return Path(path).open("rb")
    except (OSError, ValueError, ImportError) as error:
        raise CorpusError(f"input {path!r} cannot be opened: {error}") from error


def _is_web(path: str) -> bool:
    return path.startswith(("http://", "https://"))


def has_ranges(path: str) -> bool:
    """Whether reading may start anywhere in the file: not on every web server."""
    if not _is_web(path):
        return True
    file_system, _, (key,) = fsspec.get_fs_token_paths(path)
    return bool(file_system.info(key).get("partial"))


def stamp(path: str) -> str:
    """What changes when the file does, at the price of a look at its directory entry."""
    try:
        if not is_url(path):
            status = Path(path).stat()
            return f"{status.st_size} {status.st_mtime_ns}"
        file_system, _, (key,) = fsspec.get_fs_token_paths(path)
        info = file_system.info(key)
    except (OSError, ValueError, ImportError) as error:
        raise CorpusError(f"input {path!r} cannot be read: {error}") from error
    return " ".join(str(info.get(key)) for key in ("size", "mtime", "ETag", "LastModified"))


def stored_bytes(path: str) -> int:
    """Size of the file as it is stored; 0 where the place does not tell."""
    try:
        if not is_url(path):
            return Path(path).stat().st_size
        file_system, _, (key,) = fsspec.get_fs_token_paths(path)
        return int(file_system.size(key) or 0)
    except (OSError, ValueError, ImportError) as error:
        raise CorpusError(f"input {path!r} cannot be read: {error}") from error


def text_chunks(
    path: str, compression: Compression, on_raw: Callable[[bytes], object] = lambda chunk: None
) -> Iterator[bytes]:
    """The uncompressed bytes from the start, in chunks; `on_raw` sees the stored bytes.

    Raises `CorpusError` for a truncated or damaged compressed file.
    """
    with open_binary(path, in_order=True) as file:
        if not compression:
            while chunk := file.read(CHUNK_BYTES):
                on_raw(chunk)
                yield chunk
            return
        done = 0
        decoder: Any = None
        pending = b""
        while True:
            if not pending:
                pending = file.read(CHUNK_BYTES // 8)
                on_raw(pending)
                if not pending:
                    break
            if decoder is None:
                # gzip allows zero bytes after a member.
                pending = pending.lstrip(b"\0") if compression == "gzip" and done else pending
                if not pending:
                    continue
                decoder = _decoder(compression)
            try:
                chunk = decoder.decompress(pending)
            except (zlib.error, zstandard.ZstdError) as error:
                raise CorpusError(
                    f"input {path!r} is damaged after {done} bytes of text: {error}; fetch or make it again"
                ) from error
            pending = b""
            if decoder.eof:
                pending, decoder = decoder.unused_data, None
            done += len(chunk)
            if chunk:
                yield chunk
        if decoder is not None:
            raise CorpusError(
                f"input {path!r} is truncated: its {compression} data stops after {done} bytes of text; "
                f"fetch or make it again"
            )


def _decoder(compression: Compression) -> Any:
    if compression == "gzip":
        return zlib.decompressobj(wbits=31)
    return zstandard.ZstdDecompressor(max_window_size=2**31).decompressobj()


class RangeReader:
    """Reads byte ranges of one file's text; a later range of a compressed file goes on where the last ended."""

    def __init__(self, path: str, compression: Compression, encoding: str = UTF8) -> None:
        self.path = path
        self._compression = compression
        self._encoding = encoding
        self._is_in_order = bool(compression) or encoding != UTF8 or not has_ranges(path)
        self._position = 0
        self._left = b""
        self._chunks: Iterator[bytes] | None = None

    def chunks(self, start: int, end: int) -> Iterator[bytes]:
        """The bytes from `start` to `end` (exclusive) of the uncompressed text (made into UTF-8), in chunks."""
        if not self._is_in_order:
            yield from self._plain_chunks(start, end)
            return
        if self._chunks is None or start < self._position:
            self._chunks = transcoded(text_chunks(self.path, self._compression), self._encoding, self.path)
            self._position, self._left = 0, b""
        while self._position < end:
            chunk = self._left or next(self._chunks, b"")
            if not chunk:
                raise CorpusError(f"input {self.path!r} became shorter while it was read; run again")
            size = min(len(chunk), end - self._position)
            skipped = max(0, start - self._position)
            self._position += size
            self._left = chunk[size:]
            if skipped < size:
                yield chunk[skipped:size]

    def _plain_chunks(self, start: int, end: int) -> Iterator[bytes]:
        with open_binary(self.path) as file:
            file.seek(start)
            while start < end:
                chunk = file.read(min(CHUNK_BYTES, end - start))
                if not chunk:
                    raise CorpusError(f"input {self.path!r} became shorter while it was read; run again")
                start += len(chunk)
                yield chunk
