"""An output folder at an fsspec URL."""

import contextlib
import dataclasses
from collections.abc import Iterable, Sequence
from pathlib import PurePosixPath

from infra.storage import Folder
from jobs.runner.output.checks import BLOCKS, FOREIGN, are_shards, refuse
from pipeline.lineage import (
    MANIFEST_NAME,
    PLAN_NAME,
    Artifact,
    JobRecord,
    digest_of,
    parse_record,
    record_text,
)
from pipeline.output_files import (
    PYTHON_DOCS_NAME,
    RECORD_NAME,
    is_below_checkpoints,
    is_never_foreign,
    is_of_job,
    other_checkpoints_among,
)
from pipeline.redaction import redacted


class RemoteOutputFolder:
    """An output folder at an fsspec URL, with the rules of a local one. Stores have no locks: two jobs at one URL are
    detected only where the second finds the unfinished record of a job of another identity."""

    def __init__(self, url: str, kind: str) -> None:
        """Raises `StorageError` where nothing can be written there."""
        self._folder, self._kind = Folder(url), kind
        self._folder.check_bucket()

    def read(self) -> JobRecord | None:
        """See `OutputFolder`."""
        content = self._folder.read(RECORD_NAME)
        return None if content is None else parse_record(content, self._folder.url)

    def write(self, record: JobRecord) -> None:
        """See `OutputFolder`."""
        shown = dataclasses.replace(record.output, path=redacted(record.output.path))
        text = record_text(dataclasses.replace(record, output=shown))
        self._folder.write(RECORD_NAME, text.encode())

    def held(self) -> contextlib.AbstractContextManager[None]:
        """No lock is taken."""
        return contextlib.nullcontext()

    def check(self, earlier: JobRecord | None, inputs: Iterable[str], force: bool) -> None:
        """See `OutputFolder`."""
        names = self._folder.names()
        own = {*self._own(earlier, names), PYTHON_DOCS_NAME}
        read = [path.removeprefix(self._prefix) for path in inputs]
        fresh = earlier is None
        claimed = [name for name in names if is_of_job(name, self._kind) and name not in (*own, *read)]
        if fresh or force:
            claimed += dict.fromkeys(other_checkpoints_among(names, fresh))
        refuse(self._folder.url, claimed, BLOCKS)
        is_all_read = any(f"{self._prefix}x".startswith(f"{path.rstrip('/')}/") for path in read)
        if fresh and not force and not self._own(None, names) and not is_all_read:
            refuse(self._folder.url, self._foreign(names, read), FOREIGN)

    def written(self, inputs: Sequence[Artifact]) -> dict[str, int]:
        """See `OutputFolder`."""
        return self._written(self._kind, inputs)

    def left_something(self, inputs: Sequence[Artifact]) -> bool:
        """Always: since there is no lock, the job of an unfinished record may be at its start."""
        return True

    def is_whole(self, record: JobRecord) -> bool:
        """See `OutputFolder`."""
        sizes = self._folder.sizes()
        return record.finished is not None and all(
            sizes.get(name) == size for name, size in record.files.items()
        )

    def remove(self, earlier: JobRecord, inputs: Sequence[Artifact]) -> None:
        """See `OutputFolder`."""
        names = self._folder.names()
        written = self._written(earlier.output.kind, inputs)
        own = [name for name in self._own(earlier, names) if name in written]
        self._folder.remove([*own, *(name for name in names if is_below_checkpoints(name))])

    def describe(self, run_id: str, inputs: Sequence[Artifact]) -> Artifact:
        """See `OutputFolder`. The digest of shards is that of their manifest, which holds the SHA-256 of each."""
        digest = self._folder.sha256(MANIFEST_NAME) if self._kind == "shards" else None
        if digest is None:
            digest = digest_of({name: self._folder.sha256(name) or "" for name in self.written(inputs)})
        return Artifact(self._kind, self._folder.url, digest, run_id)

    @property
    def _prefix(self) -> str:
        return f"{self._folder.url.rstrip('/')}/"

    def _written(self, kind: str, inputs: Sequence[Artifact]) -> dict[str, int]:
        read = {artifact.path for artifact in inputs}
        return {
            name: size
            for name, size in self._folder.sizes().items()
            if is_of_job(name, kind) and f"{self._prefix}{name}" not in read
        }

    def _foreign(self, names: list[str], read: list[str]) -> Iterable[str]:
        others = {str(PurePosixPath(name).parent) for name in names if name.endswith(f"/{RECORD_NAME}")}
        tops = {path.partition("/")[0] for path in read if "/" in path}
        return (
            name
            for name in names
            if name not in (RECORD_NAME, *read)
            and not is_of_job(name, self._kind)
            and not is_never_foreign(name.partition("/")[0])
            and not any(part.startswith(".") for part in name.split("/"))
            and name.partition("/")[0] not in tops
            and not others & {str(parent) for parent in PurePosixPath(name).parents}
        )

    def _own(self, earlier: JobRecord | None, names: list[str]) -> list[str]:
        """Names of the files of the earlier job; without a record, of the shards if there is a manifest or plan."""
        if earlier is None:
            contents = (self._folder.read(name) for name in (MANIFEST_NAME, PLAN_NAME) if name in names)
            is_ours = self._kind == "shards" and are_shards(contents)
            return [name for name in names if is_of_job(name, "shards")] if is_ours else []
        written = [name for name in names if is_of_job(name, earlier.output.kind)]
        return written if earlier.finished is None else [name for name in written if name in earlier.files]
