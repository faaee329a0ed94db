"""The output folder of shards at an fsspec URL."""

import contextlib
from collections.abc import Iterable, Sequence
from pathlib import PurePosixPath

from infra.storage import Folder
from jobs.runner.output_checks import BLOCKS, FOREIGN, are_shards, refuse
from pipeline.lineage import MANIFEST_NAME, PLAN_NAME, Artifact, JobRecord, parse_record, record_text
from pipeline.output_files import RECORD_NAME, is_of_job


class RemoteOutputFolder:
    """An output folder at an fsspec URL. Object stores have no locks: two jobs at one URL are not detected."""

    def __init__(self, url: str, kind: str) -> None:
        self._folder, self._kind = Folder(url), kind

    def read(self) -> JobRecord | None:
        """See `OutputFolder`."""
        content = self._folder.read(RECORD_NAME)
        return None if content is None else parse_record(content, self._folder.url)

    def write(self, record: JobRecord) -> None:
        """See `OutputFolder`."""
        self._folder.write(RECORD_NAME, record_text(record).encode())

    def held(self) -> contextlib.AbstractContextManager[None]:
        """No lock is taken."""
        return contextlib.nullcontext()

    def check(self, earlier: JobRecord | None, inputs: Iterable[str], force: bool) -> None:
        """See `OutputFolder`."""
        names = self._folder.names()
        own = self._own(earlier, names)
        read = [path.removeprefix(f"{self._folder.url.rstrip('/')}/") for path in inputs]
        claimed = [name for name in names if is_of_job(name, self._kind) and name not in (*own, *read)]
        refuse(self._folder.url, claimed, BLOCKS)
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
            refuse(self._folder.url, foreign, FOREIGN)

    def written(self, inputs: Sequence[Artifact]) -> dict[str, int]:
        """See `OutputFolder`."""
        read = {artifact.path for artifact in inputs}
        return {
            name: size
            for name, size in self._folder.sizes().items()
            if is_of_job(name, self._kind) and f"{self._folder.url.rstrip('/')}/{name}" not in read
        }

    def left_something(self, inputs: Sequence[Artifact]) -> bool:
        """See `OutputFolder`."""
        return bool(self.written(inputs))

    def is_whole(self, record: JobRecord) -> bool:
        """See `OutputFolder`."""
        sizes = self._folder.sizes()
        return record.finished is not None and all(
            sizes.get(name) == size for name, size in record.files.items()
        )

    def remove(self, earlier: JobRecord, inputs: Sequence[Artifact]) -> None:
        """See `OutputFolder`."""
        written = self.written(inputs)
        self._folder.remove([name for name in self._own(earlier, list(written)) if name in written])

    def describe(self, run_id: str, inputs: Sequence[Artifact]) -> Artifact:
        """The digest of shards is that of their manifest."""
        return Artifact(self._kind, self._folder.url, self._folder.sha256(MANIFEST_NAME) or "", run_id)

    def _own(self, earlier: JobRecord | None, names: list[str]) -> list[str]:
        written = [name for name in names if is_of_job(name, self._kind)]
        if earlier is None:
            contents = (self._folder.read(name) for name in (MANIFEST_NAME, PLAN_NAME) if name in names)
            return written if are_shards(contents) else []
        return written if earlier.finished is None else [name for name in written if name in earlier.files]
