"""Checksums of shards: of finished ones before they are reused, and of local ones while training reads them."""

import os
import threading
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

from pipeline.errors import ShardError
from pipeline.lineage import digest_file
from pipeline.shards.manifest import ShardRecord

FILES_AT_ONCE = 8
"""Files that are read at once: SHA-256 releases Python's lock, and object stores are slow to answer."""
AT_ONCE_BYTES = 2**26
"""Local shards up to this size are compared before they are read, which takes some 50 ms; larger ones meanwhile."""


def damaged_shards(
    records: Iterable[ShardRecord],
    sha256: Callable[[str], str | None],
    on_done: Callable[[ShardRecord], object] = lambda record: None,
) -> list[ShardRecord]:
    """The shards that are missing or whose checksum, by `sha256` of their name, is another than recorded.

    `on_done` is called with each when it is compared.
    """

    def is_damaged(record: ShardRecord) -> bool:
        found = sha256(record.file) != record.sha256
        on_done(record)
        return found

    records = list(records)
    with ThreadPoolExecutor(FILES_AT_ONCE) as pool:
        return [record for record, found in zip(records, pool.map(is_damaged, records), strict=True) if found]


class Verifier:
    """Compares the checksum of each local shard once per process, in a thread if they are large.

    The ranks of a machine (LOCAL_RANK, LOCAL_WORLD_SIZE) share the work: together they compare each shard once. The
    rank that finds a damaged shard raises at its next read, which ends the run of all.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._begun: set[str] = set()
        self._thread: ThreadPoolExecutor | None = None
        self._results: list[Future[None]] = []

    def begin(self, files: Sequence[tuple[Path, ShardRecord]]) -> None:
        """Compare those of these shards that are this rank's and new. Raises `ShardError` for a damaged one."""
        rank, size = (int(os.environ.get(name, value)) for name, value in _RANK)
        with self._lock:
            mine = [
                (path, record)
                for path, record in files
                if record.file not in self._begun and int(record.sha256[:8], 16) % size == rank % size
            ]
            self._begun.update(record.file for _, record in mine)
            if sum(record.file_bytes for _, record in mine) > AT_ONCE_BYTES:
                self._thread = self._thread or ThreadPoolExecutor(1, thread_name_prefix="shard-verifier")
                self._results += [self._thread.submit(_compare, *one) for one in mine]
                return
        for one in mine:
            _compare(*one)

    def check(self, wait: bool = False) -> None:
        """Raise `ShardError` where a shard has been found damaged; with `wait`, compare all of them first."""
        with self._lock:
            done = [result for result in self._results if wait or result.done()]
        for result in done:
            result.result()
            self._results.remove(result)


_RANK = (("LOCAL_RANK", "0"), ("LOCAL_WORLD_SIZE", "1"))


def _compare(path: Path, record: ShardRecord) -> None:
    try:
        found = digest_file(path)
    except OSError as error:
        raise ShardError(f"shard {path} cannot be read: {error.strerror}") from error
    if found != record.sha256:
        raise ShardError(
            f"shard {path} is damaged: its checksum is not that of the manifest; run `sllm prepare` again, it makes "
            f"just this shard anew"
        )
