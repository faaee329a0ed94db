"""Where a job's output and its record lie: a folder, held by one job at a time, or (shards only) behind a URL."""

import contextlib
import fcntl
import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Protocol

from infra.storage import Folder
from pipeline.errors import ConfigError
from pipeline.lineage import (
    CHECKPOINTS_NAME,
    MANIFEST_NAME,
    RECORD_NAME,
    Artifact,
    JobRecord,
    content_files,
    describe_output,
    parse_record,
    read_record,
    record_text,
    write_record,
)

LOCK_NAME = ".lock"


class JobPlace(Protocol):
    """What `run_job` needs of the place it writes to."""

    def read(self) -> JobRecord | None:
        """The record of the job that wrote here."""

    def write(self, record: JobRecord) -> None:
        """Write the record: it appears whole or not at all."""

    def held(self) -> contextlib.AbstractContextManager[None]:
        """Hold the place, so that two jobs never write to it at once. A dead job holds nothing."""

    def written(self, inputs: Sequence[Artifact]) -> dict[str, int]:
        """Files of the output, with their bytes, less those that the job read (a corpus that it put there)."""

    def left_something(self, inputs: Sequence[Artifact]) -> bool:
        """Whether a job that did not finish wrote something: one that failed at once is forgotten."""

    def is_whole(self, record: JobRecord) -> bool:
        """Whether the job finished and each file it wrote is still there, with the size it had."""

    def remove(self, earlier: JobRecord, inputs: Sequence[Artifact]) -> None:
        """Remove what that job wrote, and nothing else: a person's own files there stay."""

    def describe(self, kind: str, run_id: str) -> Artifact:
        """What stands here, with its digest."""


def job_place(output: str, kind: str) -> JobPlace:
    """The place of this output. Raises `ConfigError` for a URL where only a folder will do."""
    if "://" not in output:
        return LocalPlace(output)
    if kind != "shards":
        raise ConfigError(f"output={output} must be a folder that every node reaches, not a URL: mount it")
    return RemotePlace(output)


class LocalPlace:
    """A folder."""

    def __init__(self, output: str) -> None:
        self._output = output
        self._folder = Path(output)

    def read(self) -> JobRecord | None:
        """See `JobPlace`."""
        return read_record(self._output)

    def write(self, record: JobRecord) -> None:
        """See `JobPlace`."""
        write_record(self._output, record)

    @contextlib.contextmanager
    def held(self) -> Iterator[None]:
        """See `JobPlace`."""
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            lock = (self._folder / LOCK_NAME).open("a")
        except OSError as error:
            raise ConfigError(f"cannot write to output={self._output}: {error.strerror}") from error
        with lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError as error:
                raise ConfigError(
                    f"another job is writing to {self._output}: wait for it, or name another output"
                ) from error
            except OSError:  # a file system without locks
                pass
            yield

    def written(self, inputs: Sequence[Artifact]) -> dict[str, int]:
        """See `JobPlace`."""
        read = {artifact.path for artifact in inputs}
        files = content_files(self._output).items()
        return {name: size for name, size in files if absolute(f"{self._output}/{name}") not in read}

    def left_something(self, inputs: Sequence[Artifact]) -> bool:
        """See `JobPlace`."""
        return bool(self.written(inputs)) or (self._folder / CHECKPOINTS_NAME).exists()

    def is_whole(self, record: JobRecord) -> bool:
        """See `JobPlace`."""
        return record.output_is_whole

    def remove(self, earlier: JobRecord, inputs: Sequence[Artifact]) -> None:
        """See `JobPlace`."""
        for name in earlier.files.keys() & self.written(inputs).keys():
            (self._folder / name).unlink()
        shutil.rmtree(self._folder / CHECKPOINTS_NAME, ignore_errors=True)

    def describe(self, kind: str, run_id: str) -> Artifact:
        """See `JobPlace`."""
        return describe_output(kind, self._output, run_id)


class RemotePlace:
    """Behind an fsspec URL. Object stores know no locks: two jobs at one URL are not kept apart."""

    def __init__(self, url: str) -> None:
        self._folder = Folder(url)

    def read(self) -> JobRecord | None:
        """See `JobPlace`."""
        content = self._folder.read(RECORD_NAME)
        return None if content is None else parse_record(content, self._folder.url)

    def write(self, record: JobRecord) -> None:
        """See `JobPlace`."""
        self._folder.write(RECORD_NAME, record_text(record).encode())

    def held(self) -> contextlib.AbstractContextManager[None]:
        """Nothing is held."""
        return contextlib.nullcontext()

    def written(self, inputs: Sequence[Artifact]) -> dict[str, int]:
        """See `JobPlace`."""
        read = {artifact.path for artifact in inputs}
        return {
            name: size
            for name, size in self._folder.sizes().items()
            if name != RECORD_NAME and f"{self._folder.url.rstrip('/')}/{name}" not in read
        }

    def left_something(self, inputs: Sequence[Artifact]) -> bool:
        """See `JobPlace`."""
        return bool(self.written(inputs))

    def is_whole(self, record: JobRecord) -> bool:
        """See `JobPlace`."""
        sizes = self._folder.sizes()
        return record.finished is not None and all(
            sizes.get(name) == size for name, size in record.files.items()
        )

    def remove(self, earlier: JobRecord, inputs: Sequence[Artifact]) -> None:
        """See `JobPlace`."""
        self._folder.remove(sorted(earlier.files.keys() & self.written(inputs).keys()))

    def describe(self, kind: str, run_id: str) -> Artifact:
        """Shards are digested by their manifest."""
        return Artifact(kind, self._folder.url, self._folder.sha256(MANIFEST_NAME) or "", run_id)


def absolute(path: str) -> str:
    """A path that means the same from any folder; names and URLs stay as they are."""
    return str(Path(path).absolute()) if Path(path).exists() else path
