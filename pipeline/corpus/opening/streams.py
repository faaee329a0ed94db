"""The bytes of a file: local or at an fsspec URL, plain or compressed, all or a range of them."""

import stat
import time
from collections.abc import Callable, Iterator
from typing import BinaryIO, cast

import fsspec

from pipeline.config.paths import is_url
from pipeline.corpus.file_names import path_on_disk
from pipeline.corpus.opening.compression import CHUNK_BYTES, Compression, decompressed
from pipeline.corpus.opening.encodings import UTF8, transcoded
from pipeline.corpus.opening.restart_points import RestartPoint, RestartPoints, can_restart
from pipeline.errors import CorpusError

SETTLED_NS = 2 * 10**9
"""Nanoseconds after which a change of a file has another time: no file system has longer steps."""
_VERSION_KEYS = ("ETag", "etag", "generation", "VersionId", "version_id", "md5Hash", "content_md5")


def open_binary(path: str, in_order: bool = False) -> BinaryIO:
    """Open a local file or fsspec URL for reading; with `in_order` only from start to end.

    Raises `CorpusError` where it cannot be opened.
    """
    try:
        if is_url(path):
            # A web server then gets one request instead of many, and need not support ranges.
            options = {"block_size": 0} if in_order and is_web(path) else {}
            return cast(BinaryIO, fsspec.open(path, "rb", **options).open())
        return path_on_disk(path).open("rb")
    except (OSError, ValueError, ImportError) as error:
        raise CorpusError(f"input {path!r} cannot be opened: {error}") from error


def is_web(path: str) -> bool:
    """Whether the file is on a web server."""
    return path.startswith(("http://", "https://"))


def first_bytes(path: str, size: int) -> bytes:
    """The first `size` stored bytes, or all where there are fewer, without fetching the rest.

    Raises `CorpusError` where they cannot be read.
    """
    try:
        if is_url(path) and not is_web(path):
            file_system, key = fsspec.core.url_to_fs(path)
            if file_system.size(key) != 0:
                return cast(bytes, file_system.cat_file(key, start=0, end=size))
            return b""
        with open_binary(path, in_order=True) as file:
            return b"".join(_stored_chunks(file, path, size, size))
    except (OSError, ValueError, ImportError) as error:
        raise CorpusError(f"input {path!r} cannot be read: {error}") from error


def _stored_chunks(
    file: BinaryIO, path: str, chunk_bytes: int, num_bytes: int | None = None
) -> Iterator[bytes]:
    """The content of the file, or its first `num_bytes`."""
    done = 0
    while num_bytes is None or done < num_bytes:
        try:
            chunk = file.read(chunk_bytes if num_bytes is None else min(chunk_bytes, num_bytes - done))
        except Exception as error:  # of sockets, web clients, object stores
            raise CorpusError(f"input {path!r} cannot be read after {done} bytes: {error}") from error
        if not chunk:
            return
        done += len(chunk)
        yield chunk


def has_ranges(path: str) -> bool:
    """Whether reading can start anywhere in the file, which some web servers do not support."""
    if not is_web(path):
        return True
    file_system, key = fsspec.core.url_to_fs(path)
    return bool(file_system.info(key).get("partial"))


def stamp(path: str) -> str:
    """A string that changes when the file changes, from its directory entry. Raises `CorpusError` where it has none."""
    try:
        if not is_url(path):
            status = path_on_disk(path).stat()
            return f"{status.st_size} {status.st_mtime_ns}"
        file_system, key = fsspec.core.url_to_fs(path)
        info = file_system.info(key)
    except (OSError, ValueError, ImportError) as error:
        raise CorpusError(f"input {path!r} cannot be read: {error}") from error
    return " ".join(
        str(info.get(key)) for key in ("size", "mtime", "ETag", "LastModified", "etag", "last_modified")
    )


def version(path: str) -> str | None:
    """A string that no other content of the file has had or will have; None where nothing shows that.

    Of a local file: size and times of the last change of content and of its entry (which no program can set back),
    if they are older than the clock's steps: a file that was just written may change again at the same time. Of a URL:
    size and ETag, generation or version.
    """
    try:
        if not is_url(path):
            status = path_on_disk(path).stat()
            changed = max(status.st_mtime_ns, status.st_ctime_ns)
            is_settled = stat.S_ISREG(status.st_mode) and changed < time.time_ns() - SETTLED_NS
            return f"{status.st_size} {status.st_mtime_ns} {status.st_ctime_ns}" if is_settled else None
        file_system, key = fsspec.core.url_to_fs(path)
        info = file_system.info(key)
    except Exception:  # of file systems, web clients, object stores; the survey says what is wrong
        return None
    tags = [f"{name}={info[name]}" for name in _VERSION_KEYS if info.get(name)]
    is_weak = any("=W/" in tag for tag in tags)  # an ETag that other bytes may have too
    return f"{info.get('size')} {' '.join(tags)}" if tags and not is_weak else None


def stored_bytes(path: str) -> int:
    """Stored size of the file in bytes; 0 where a server does not give it. Raises `CorpusError` for an unreadable
    file."""
    try:
        if not is_url(path):
            return path_on_disk(path).stat().st_size
        file_system, key = fsspec.core.url_to_fs(path)
        return int(file_system.size(key) or 0)
    except (OSError, ValueError, ImportError) as error:
        raise CorpusError(f"input {path!r} cannot be read: {error}") from error


def text_chunks(
    path: str,
    compression: Compression,
    on_raw: Callable[[bytes], object] = lambda chunk: None,
    points: RestartPoints | None = None,
    start: RestartPoint | None = None,
) -> Iterator[bytes]:
    """The uncompressed bytes in chunks; `on_raw` is called with the stored bytes. Of gzip, `points` collects points at
    which reading can start, and with `start` it does there.

    Raises `CorpusError` for a truncated or damaged compressed file.
    """
    with open_binary(path, in_order=start is None) as file:
        if start is not None:
            file.seek(start.stored - (start.bits > 0))
        if not compression:
            for chunk in _stored_chunks(file, path, CHUNK_BYTES):
                on_raw(chunk)
                yield chunk
            return

        def stored() -> Iterator[bytes]:
            for chunk in _stored_chunks(file, path, CHUNK_BYTES // 8):
                on_raw(chunk)
                if points is not None:
                    points.delivered += len(chunk)
                yield chunk

        yield from decompressed(stored(), compression, path, points, start)


class RangeReader:
    """Reads byte ranges of the text of a file. The next range of a compressed file continues where the last ended, or
    starts at a point of a gzip file."""

    def __init__(self, path: str, compression: Compression, encoding: str = UTF8) -> None:
        self.path = path
        self._compression = compression
        self._encoding = encoding
        self._is_in_order = bool(compression) or encoding != UTF8 or not has_ranges(path)
        self._can_start_at_points = (
            compression == "gzip" and encoding == UTF8 and can_restart() and has_ranges(path)
        )
        self._position = 0
        self._left = b""
        self._chunks: Iterator[bytes] | None = None

    def chunks(self, start: int, end: int, point: RestartPoint | None = None) -> Iterator[bytes]:
        """The bytes from `start` to `end` (exclusive) of the uncompressed text in UTF-8, in chunks; `point` is at or
        before `start`. Raises `CorpusError` where the file became shorter."""
        if not self._is_in_order:
            yield from self._plain_chunks(start, end)
            return
        is_behind = self._chunks is None or start < self._position
        if point is not None and (is_behind or self._position < point.text) and self._can_start_at_points:
            self._chunks = text_chunks(self.path, self._compression, start=point)
            self._position, self._left = point.text, b""
        elif is_behind:
            self._chunks = transcoded(text_chunks(self.path, self._compression), self._encoding, self.path)
            self._position, self._left = 0, b""
        assert self._chunks is not None
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
