"""Where a job's output and its record lie: a folder, held by one job at a time, or (shards only) behind a URL."""

import contextlib
import fcntl
import itertools
import os
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path, PurePosixPath
from typing import Protocol

from infra.storage import Folder, StorageError
from pipeline.config.paths import is_url, resolved_path
from pipeline.errors import ConfigError
from pipeline.lineage import (
    MANIFEST_NAME,
    Artifact,
    JobRecord,
    artifact_of,
    digest_file,
    digest_files,
    parse_record,
    read_record,
    record_text,
    write_record,
)
from pipeline.output_files import (
    RECORD_NAME,
    foreign_entries,
    has_checkpoints,
    in_the_way,
    is_of_job,
    other_checkpoints,
    remove_checkpoints,
    remove_written,
    written_files,
)

LOCK_NAME = ".lock"
PLAN = "progress/plan.json"
_SHOWN = 4


class JobPlace(Protocol):
    """What `run_job` needs of the place it writes to."""

    def read(self) -> JobRecord | None:
        """The record of the job that wrote here."""

    def write(self, record: JobRecord) -> None:
        """Write the record: it appears whole or not at all."""

    def held(self) -> contextlib.AbstractContextManager[None]:
        """Hold the place, so that two jobs never write to it at once. A dead job holds nothing."""

    def check(self, earlier: JobRecord | None, inputs: Iterable[str], force: bool) -> None:
        """Before anything is written. `earlier` is the record of the job that goes on or is replaced.

        Raises `ConfigError` where the job would write over what none of ours wrote, or, without a job of ours here
        and without `force`, would write beside it. What the job reads (`inputs`, paths) may lie here.
        """

    def written(self, inputs: Sequence[Artifact]) -> dict[str, int]:
        """Files that the job wrote, with their bytes, less those that it read (a corpus that it put there)."""

    def left_something(self, inputs: Sequence[Artifact]) -> bool:
        """Whether a job that did not finish wrote something: one that failed at once is forgotten."""

    def is_whole(self, record: JobRecord) -> bool:
        """Whether the job finished and each file it wrote is still there, with the size it had."""

    def remove(self, earlier: JobRecord, inputs: Sequence[Artifact]) -> None:
        """Remove what that job wrote, and nothing else: what others put there stays, and what is behind links."""

    def describe(self, run_id: str, inputs: Sequence[Artifact]) -> Artifact:
        """What the job wrote, with its digest."""


def job_place(output: str, kind: str) -> JobPlace:
    """The place of this output. Raises `ConfigError` for a URL where only a folder will do."""
    if is_url(output):
        if kind != "shards":
            raise not_a_folder(output)
        return RemotePlace(output, kind)
    return LocalPlace(resolved_path(output), kind)


def check_new(output: str, kind: str, inputs: Iterable[str], force: bool) -> None:
    """Before any work: whether a job may begin in `output`, where none of ours did. Raises `ConfigError` if not."""
    place = job_place(output, kind)
    if place.read() is None:
        place.check(None, inputs, force)


def output_folder(output: str | None, needs: str) -> str:
    """`output`, which must be a folder. Raises `ConfigError` (with what the verb `needs`) for none, and for a URL."""
    if output is None:
        raise ConfigError(needs)
    if is_url(output):
        raise not_a_folder(output)
    return resolved_path(output)


def not_a_folder(output: str) -> ConfigError:
    """The error for an output at a URL, which `sllm prepare` alone can write to."""
    return ConfigError(f"output={output} must be a folder that every node reaches, not a URL: mount it")


def record_at(path: str) -> JobRecord | None:
    """The record of the job that wrote what lies in a folder or at a URL; None where there is none."""
    if not is_url(path):
        return read_record(path)
    content = Folder(path).read(RECORD_NAME)
    return None if content is None else parse_record(content, path)


def artifact_at(path: str) -> Artifact:
    """As `artifact_of`, for a URL too: shards that a job wrote, other shards, or a file (which is read for its digest).

    Raises `ConfigError` where there is nothing, or only the unfinished output of a job.
    """
    if not is_url(path):
        return artifact_of(path)
    record = record_at(path)
    if record is not None and record.finished is not None:
        return record.output
    if record is not None:
        raise ConfigError(
            f"{path} is the unfinished output of {record.job} (run {record.run_id}): run that again"
        )
    if digest := Folder(path).sha256(MANIFEST_NAME):
        return Artifact("shards", path, digest)
    parent, _, name = path.rstrip("/").rpartition("/")
    if digest := Folder(parent).sha256(name):
        return Artifact("corpus", path, digest)
    raise ConfigError(
        f"there is nothing at {path}: correct the URL, or name a file (not a folder) of the corpus"
    )


class LocalPlace:
    """A folder."""

    def __init__(self, output: str, kind: str) -> None:
        self._output, self._kind = output, kind
        self._folder = Path(output)

    def read(self) -> JobRecord | None:
        """See `JobPlace`."""
        return read_record(self._output)

    def write(self, record: JobRecord) -> None:
        """See `JobPlace`."""
        try:
            write_record(self._output, record)
        except OSError as error:
            raise StorageError(
                f"{RECORD_NAME} cannot be written to {self._output}: {error.strerror}; free some space or allow it, "
                f"then run the same command again"
            ) from error

    @contextlib.contextmanager
    def held(self) -> Iterator[None]:
        """See `JobPlace`."""
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
        """See `JobPlace`."""
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
        _refuse(
            self._output,
            blocked,
            _IN_THE_WAY,
        )
        if fresh and not force and not own:
            foreign = foreign_entries(self._folder, self._kind, inputs)
            _refuse(self._output, foreign, _REMEDY)

    def written(self, inputs: Sequence[Artifact]) -> dict[str, int]:
        """See `JobPlace`."""
        return {name: (self._folder / name).stat().st_size for name in self._written(self._kind, inputs)}

    def left_something(self, inputs: Sequence[Artifact]) -> bool:
        """See `JobPlace`."""
        return bool(self._written(self._kind, inputs)) or has_checkpoints(self._folder)

    def is_whole(self, record: JobRecord) -> bool:
        """See `JobPlace`."""
        return record.output_is_whole

    def remove(self, earlier: JobRecord, inputs: Sequence[Artifact]) -> None:
        """See `JobPlace`."""
        own = set(self._own(earlier)) & set(self._written(earlier.output.kind, inputs))
        try:
            remove_written(self._folder, sorted(own))
            remove_checkpoints(self._folder)
        except OSError as error:
            raise ConfigError(f"cannot clear output={self._output}: {error}") from error

    def describe(self, run_id: str, inputs: Sequence[Artifact]) -> Artifact:
        """See `JobPlace`. Shards are digested by their manifest, which holds the SHA-256 of each."""
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
        """Names of what the earlier job wrote; without a record, of shards that carry their own."""
        if earlier is None:
            contents = (_content(self._folder / name) for name in (MANIFEST_NAME, PLAN))
            return (
                written_files(self._folder, "shards")
                if self._kind == "shards" and _are_shards(contents)
                else []
            )
        names = written_files(self._folder, earlier.output.kind)
        return names if earlier.finished is None else [name for name in names if name in earlier.files]


class RemotePlace:
    """Behind an fsspec URL. Object stores know no locks: two jobs at one URL are not kept apart."""

    def __init__(self, url: str, kind: str) -> None:
        self._folder, self._kind = Folder(url), kind

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

    def check(self, earlier: JobRecord | None, inputs: Iterable[str], force: bool) -> None:
        """See `JobPlace`."""
        names = self._folder.names()
        own = self._own(earlier, names)
        read = [path.removeprefix(f"{self._folder.url.rstrip('/')}/") for path in inputs]
        claimed = [name for name in names if is_of_job(name, self._kind) and name not in (*own, *read)]
        _refuse(
            self._folder.url,
            claimed,
            _IN_THE_WAY,
        )
        if earlier is None and not force and not own:
            others = {str(PurePosixPath(name).parent) for name in names if name.endswith(f"/{RECORD_NAME}")}
            tops = {path.partition("/")[0] for path in read if "/" in path}
            foreign = (
                name
                for name in names
                if name not in (RECORD_NAME, *read)
                and not name.startswith(".")
                and name.partition("/")[0] not in tops
                and not others & {str(parent) for parent in PurePosixPath(name).parents}
            )
            _refuse(self._folder.url, foreign, _REMEDY)

    def written(self, inputs: Sequence[Artifact]) -> dict[str, int]:
        """See `JobPlace`."""
        read = {artifact.path for artifact in inputs}
        return {
            name: size
            for name, size in self._folder.sizes().items()
            if is_of_job(name, self._kind) and f"{self._folder.url.rstrip('/')}/{name}" not in read
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
        written = self.written(inputs)
        self._folder.remove([name for name in self._own(earlier, list(written)) if name in written])

    def describe(self, run_id: str, inputs: Sequence[Artifact]) -> Artifact:
        """Shards are digested by their manifest."""
        return Artifact(self._kind, self._folder.url, self._folder.sha256(MANIFEST_NAME) or "", run_id)

    def _own(self, earlier: JobRecord | None, names: list[str]) -> list[str]:
        written = [name for name in names if is_of_job(name, self._kind)]
        if earlier is None:
            contents = (self._folder.read(name) for name in (MANIFEST_NAME, PLAN) if name in names)
            return written if _are_shards(contents) else []
        return written if earlier.finished is None else [name for name in written if name in earlier.files]


_IN_THE_WAY = "it stands where this job writes; move it away, or name another output"
_REMEDY = "name another output, or write beside it with --force, which leaves it as it is"


def _refuse(output: str, names: Iterable[str], remedy: str) -> None:
    """Raise `ConfigError` where there are names of what no job wrote."""
    first = list(itertools.islice(names, _SHOWN))
    if first:
        shown = ", ".join(first[: _SHOWN - 1]) + (", ..." if len(first) == _SHOWN else "")
        raise ConfigError(f"output {output} holds {shown}, which no job of ours wrote: {remedy}")


def _are_shards(contents: Iterable[bytes | None]) -> bool:
    """Whether one of these is the manifest, or the plan, of shards of ours."""
    return any(content is not None and b'"tokenizer_digest"' in content for content in contents)


def _content(path: Path) -> bytes | None:
    return path.read_bytes() if path.is_file() and not path.is_symlink() else None


def absolute(path: str) -> str:
    """A path that means the same from any folder; names and URLs stay as they are."""
    return str(Path(path).absolute()) if Path(path).exists() else path
