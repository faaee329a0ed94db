"""An output folder on a local file system."""

import contextlib
import fcntl
import os
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from infra.storage import StorageError
from jobs.runner.output.checks import BLOCKS, FOREIGN, are_shards, refuse
from pipeline.errors import ConfigError
from pipeline.lineage import (
    MANIFEST_NAME,
    PLAN_NAME,
    Artifact,
    JobRecord,
    digest_file,
    digest_files,
    read_record,
    write_record,
)
from pipeline.output_files import (
    RECORD_NAME,
    foreign_entries,
    has_checkpoints,
    in_the_way,
    other_checkpoints,
    remove_checkpoints,
    remove_written,
    written_files,
)

LOCK_NAME = ".lock"


class LocalOutputFolder:
    """A folder."""

    def __init__(self, output: str, kind: str) -> None:
        self._output, self._kind = output, kind
        self._folder = Path(output)

    def read(self) -> JobRecord | None:
        """See `OutputFolder`."""
        return read_record(self._output)

    def write(self, record: JobRecord) -> None:
        """See `OutputFolder`."""
        try:
            write_record(self._output, record)
        except OSError as error:
            raise StorageError(
                f"{RECORD_NAME} cannot be written to {self._output}: {error.strerror}; free some space or allow it, "
                f"then run the same command again"
            ) from error

    @contextlib.contextmanager
    def held(self) -> Iterator[None]:
        """See `OutputFolder`."""
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            lock = os.open(
                self._folder / LOCK_NAME, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o666
            )
        except OSError as error:
            raise ConfigError(f"cannot write to output={self._output}: {error.strerror}") from error
        try:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError as error:
                raise ConfigError(
                    f"another job is writing to {self._output}: wait for it, or name another output"
                ) from error
            except OSError:  # a file system without locks
                pass
            yield
        finally:
            os.close(lock)

    def check(self, earlier: JobRecord | None, inputs: Iterable[str], force: bool) -> None:
        """See `OutputFolder`."""
        inputs = list(inputs)
        read = {os.path.realpath(path) for path in inputs}
        fresh = earlier is None
        own = self._own(earlier)
        blocked = [
            name
            for name in in_the_way(self._folder, self._kind, own)
            if os.path.realpath(self._folder / name) not in read
        ]
        if fresh or force:
            blocked += other_checkpoints(self._folder, fresh)
        refuse(self._output, blocked, BLOCKS)
        if fresh and not force and not own:
            foreign = foreign_entries(self._folder, self._kind, inputs)
            refuse(self._output, foreign, FOREIGN)

    def written(self, inputs: Sequence[Artifact]) -> dict[str, int]:
        """See `OutputFolder`."""
        return {name: (self._folder / name).stat().st_size for name in self._written(self._kind, inputs)}

    def left_something(self, inputs: Sequence[Artifact]) -> bool:
        """See `OutputFolder`."""
        return bool(self._written(self._kind, inputs)) or has_checkpoints(self._folder)

    def is_whole(self, record: JobRecord) -> bool:
        """See `OutputFolder`."""
        return record.output_is_whole

    def remove(self, earlier: JobRecord, inputs: Sequence[Artifact]) -> None:
        """See `OutputFolder`."""
        own = set(self._own(earlier)) & set(self._written(earlier.output.kind, inputs))
        try:
            remove_written(self._folder, sorted(own))
            remove_checkpoints(self._folder)
        except OSError as error:
            raise ConfigError(f"cannot clear output={self._output}: {error}") from error

    def describe(self, run_id: str, inputs: Sequence[Artifact]) -> Artifact:
        """See `OutputFolder`. The digest of shards is that of their manifest, which holds the SHA-256 of each."""
        manifest = self._folder / MANIFEST_NAME
        if self._kind == "shards" and manifest.is_file():
            digest = digest_file(manifest)
        else:
            digest = digest_files(self._folder, self._written(self._kind, inputs))
        return Artifact(self._kind, self._output, digest, run_id)

    def _written(self, kind: str, inputs: Sequence[Artifact]) -> list[str]:
        read = {os.path.realpath(artifact.path) for artifact in inputs}
        return [
            name
            for name in written_files(self._folder, kind)
            if os.path.realpath(self._folder / name) not in read
        ]

    def _own(self, earlier: JobRecord | None) -> list[str]:
        """Names of the files of the earlier job; without a record, of the shards if there is a manifest or plan."""
        if earlier is None:
            contents = (_content(self._folder / name) for name in (MANIFEST_NAME, PLAN_NAME))
            return (
                written_files(self._folder, "shards")
                if self._kind == "shards" and are_shards(contents)
                else []
            )
        names = written_files(self._folder, earlier.output.kind)
        return names if earlier.finished is None else [name for name in names if name in earlier.files]


def _content(path: Path) -> bytes | None:
    return path.read_bytes() if path.is_file() and not path.is_symlink() else None
