"""Copies of remote shards on this machine: prefetched, verified, and bounded in size.

A copy is named by the SHA-256 of its content, so processes and runs share it.
"""

import contextlib
import hashlib
import os
import re
import threading
import time
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from pathlib import Path
from typing import Any

import fsspec

from pipeline.config import StreamConfig
from pipeline.config.paths import resolved_path
from pipeline.errors import ShardError
from pipeline.lineage import digest_file
from pipeline.output_files import write_whole, written_aside
from pipeline.shards.format import TOKENIZER_FILES, TOKENIZER_FOLDER
from pipeline.shards.manifest import ShardRecord

FETCH_ATTEMPTS = 3
_COPY_NAME = re.compile(r"[0-9a-f]{64}\.arrow")
PARALLEL_FETCHES = 4
RETRY_SECONDS = 1.0
"""Seconds before the second attempt; twice as many before the third."""


class ShardCache:
    """The files of one remote folder, with copies of its shards in `options.cache`.

    Raises `ShardError` where the folder cannot be reached.
    """

    def __init__(self, url: str, options: StreamConfig) -> None:
        self.url, self.folder = url.rstrip("/"), Path(resolved_path(options.cache))
        self.max_bytes = options.cache_bytes
        try:
            self._remote: Any = fsspec.core.url_to_fs(self.url)[0]
        except (OSError, ValueError, ImportError) as error:
            raise ShardError(f"shards {url!r} cannot be reached: {error}") from error
        self._pool = ThreadPoolExecutor(PARALLEL_FETCHES, thread_name_prefix="shard-fetcher")
        self._lock = threading.Lock()
        self._coming: dict[str, Future[Path]] = {}
        """By checksum: shards of the block that is being read, and of the next one."""
        self._reading: list[ShardRecord] = []
        self._arriving = 0
        """Bytes that are being fetched."""

    def read(self, name: str) -> bytes:
        """Content of a small file, not cached. Raises `ShardError` where it cannot be fetched."""
        data: bytes = self._attempt(name, lambda: self._remote.cat_file(f"{self.url}/{name}"))
        return data

    def tokenizer(self) -> Path:
        """A local folder with the tokenizer's files."""
        files = {name: self.read(f"{TOKENIZER_FOLDER}/{name}") for name in TOKENIZER_FILES}
        digest = hashlib.sha256(b"\0".join(files.values())).hexdigest()
        folder = self.folder / f"tokenizer-{digest}"
        for name, data in files.items():
            write_whole(folder / name, data)
        return folder

    def sha256(self, name: str) -> str:
        """SHA-256 (hex) of a file at the URL, without the cache; empty where there is no such file.

        Raises `ShardError` where it cannot be fetched.
        """

        def digest() -> str:
            self._remote.invalidate_cache()  # the present file, not one that fsspec has cached
            try:
                with self._remote.open(f"{self.url}/{name}", "rb") as file:
                    return digest_file(file)
            except FileNotFoundError:
                return ""

        found: str = self._attempt(name, digest)
        return found

    def fetch(self, records: Sequence[ShardRecord]) -> list[Path]:
        """Local copies of these shards, whole and verified; those of the previous call may be removed.

        Raises `ShardError` for a file that cannot be fetched or is damaged, and for a cache that is too small.
        """
        with self._lock:
            self._reading = list(records)
            self._coming = {key: future for key, future in self._coming.items() if key in _keys(records)}
        self._start(records)
        futures = [self._coming[record.sha256] for record in records]
        wait(futures)  # so that an error of one leaves no other unfinished
        return [future.result() for future in futures]

    def fetch_ahead(self, records: Sequence[ShardRecord]) -> None:
        """Start to fetch the shards of the next call of `fetch`, as far as the cache has room."""
        room = self.max_bytes - sum(record.file_bytes for record in self._reading)
        ahead = []
        for record in records:
            room -= record.file_bytes
            if room >= 0:
                ahead.append(record)
        self._start(ahead)

    def _start(self, records: Sequence[ShardRecord]) -> None:
        with self._lock:
            for record in records:
                if record.sha256 not in self._coming:
                    self._coming[record.sha256] = self._pool.submit(self._copy, record)

    def _copy(self, record: ShardRecord) -> Path:
        path = self.folder / f"{record.sha256}.arrow"
        if path.is_file() and digest_file(path) == record.sha256:
            with contextlib.suppress(FileNotFoundError):
                os.utime(path)  # the least recently used first
            return path
        url = f"{self.url}/{record.file}"

        self._make_room(record.file_bytes)
        try:
            with written_aside(path) as aside:
                self._attempt(record.file, lambda: self._remote.get_file(url, str(aside)))
                if digest_file(aside) != record.sha256:
                    raise ShardError(
                        f"shard {url} is damaged: its checksum is not that of the manifest; copy it there again, or "
                        "delete it and run `sllm prepare` again, it makes just this shard anew"
                    )
        finally:
            with self._lock:
                self._arriving -= record.file_bytes
        return path

    def _make_room(self, num_bytes: int) -> None:
        with self._lock:
            self.folder.mkdir(parents=True, exist_ok=True)
            copies = []
            for path in self.folder.glob("*.arrow"):
                if not _COPY_NAME.fullmatch(path.name) or path.is_symlink():
                    continue  # not ours
                with contextlib.suppress(FileNotFoundError):
                    copies.append((path.stat().st_mtime_ns, path.stat().st_size, path))
            total = sum(size for _, size, _ in copies) + self._arriving + num_bytes
            for _, size, path in sorted(copies):
                if total > self.max_bytes and path.stem not in self._coming:
                    path.unlink(missing_ok=True)  # what is mapped into memory stays readable
                    total -= size
            if total > self.max_bytes:
                raise ShardError(
                    f"the cache {self.folder} is too small: the shards that are read together have over "
                    f"{total} bytes, stream.cache_bytes is {self.max_bytes}; raise it or lower stream.block_tokens"
                )
            self._arriving += num_bytes

    def _attempt(self, name: str, action: Any) -> Any:
        for attempt in range(1, FETCH_ATTEMPTS + 1):
            try:
                return action()
            except FileNotFoundError as error:
                raise ShardError(f"there is no {self.url}/{name}: are the shards finished?") from error
            except Exception as error:  # each file system has errors of its own
                if attempt == FETCH_ATTEMPTS:
                    raise ShardError(
                        f"{self.url}/{name} cannot be fetched ({FETCH_ATTEMPTS} attempts): {error}"
                    ) from error
                time.sleep(RETRY_SECONDS * attempt)
        raise AssertionError


def _keys(records: Sequence[ShardRecord]) -> set[str]:
    return {record.sha256 for record in records}
