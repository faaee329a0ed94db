"""The protocol of an output folder, and the refusal of a folder with other files."""

import contextlib
import itertools
from collections.abc import Iterable, Sequence
from typing import Protocol

from pipeline.errors import ConfigError
from pipeline.lineage import Artifact, JobRecord

_SHOWN = 4


class OutputFolder(Protocol):
    """The operations of `run_job` on its output folder."""

    def read(self) -> JobRecord | None:
        """The record of the job that wrote this folder; None where there is none."""

    def write(self, record: JobRecord) -> None:
        """Write the record: it appears whole or not at all."""

    def held(self) -> contextlib.AbstractContextManager[None]:
        """Lock the folder, so that two jobs never write to it at once. The lock ends with the process."""

    def check(self, earlier: JobRecord | None, inputs: Iterable[str], force: bool) -> None:
        """Check the folder before anything is written. `earlier` is the record of the job that continues or is
        replaced.

        Raises `ConfigError` where the job would overwrite files that no job of ours wrote; and, without an earlier job
        and `force`, where there are such files. `inputs` (paths) may be in the folder.
        """

    def written(self, inputs: Sequence[Artifact]) -> dict[str, int]:
        """Files that the job wrote, with their bytes, without those that it read (a corpus that it wrote there)."""

    def left_something(self, inputs: Sequence[Artifact]) -> bool:
        """Whether an unfinished job wrote anything; if not, it is ignored."""

    def is_whole(self, record: JobRecord) -> bool:
        """Whether the job finished and each file it wrote is still there, with the size it had."""

    def remove(self, earlier: JobRecord, inputs: Sequence[Artifact]) -> None:
        """Remove only the files of that job; other files and the targets of links stay."""

    def describe(self, run_id: str, inputs: Sequence[Artifact]) -> Artifact:
        """The output as an artifact with its digest."""


BLOCKS = "this job writes there; move it away, or name another output"
"""Remedy for a foreign file with the name of one that the job writes."""
FOREIGN = "name another output, or write beside it with --force, which leaves it as it is"
"""Remedy for other foreign files."""


def refuse(output: str, names: Iterable[str], remedy: str) -> None:
    """Raise `ConfigError` if there are `names` of files that no job wrote."""
    first = list(itertools.islice(names, _SHOWN))
    if first:
        shown = ", ".join(first[: _SHOWN - 1]) + (", ..." if len(first) == _SHOWN else "")
        raise ConfigError(f"output {output} holds {shown}, which no job of ours wrote: {remedy}")


def are_shards(contents: Iterable[bytes | None]) -> bool:
    """Whether one of these contents is a manifest or plan of shards."""
    return any(content is not None and b'"tokenizer_digest"' in content for content in contents)
