"""What an output folder must be for `run_job`, and how a folder that holds other files is refused."""

import contextlib
import itertools
from collections.abc import Iterable, Sequence
from typing import Protocol

from pipeline.errors import ConfigError
from pipeline.lineage import Artifact, JobRecord

_SHOWN = 4


class OutputFolder(Protocol):
    """What `run_job` needs of the folder that it writes to."""

    def read(self) -> JobRecord | None:
        """The record of the job that wrote here."""

    def write(self, record: JobRecord) -> None:
        """Write the record: it appears whole or not at all."""

    def held(self) -> contextlib.AbstractContextManager[None]:
        """Hold the folder, so that two jobs never write to it at once. A job that died holds nothing."""

    def check(self, earlier: JobRecord | None, inputs: Iterable[str], force: bool) -> None:
        """Before anything is written. `earlier` is the record of the job that continues or is replaced.

        Raises `ConfigError` where the job would write over what none of ours wrote, or, without a job of ours here
        and without `force`, would write beside it. What the job reads (`inputs`, paths) may lie here.
        """

    def written(self, inputs: Sequence[Artifact]) -> dict[str, int]:
        """Files that the job wrote, with their bytes, less those that it read (a corpus that it wrote there)."""

    def left_something(self, inputs: Sequence[Artifact]) -> bool:
        """Whether a job that did not finish wrote something: one that failed at once is forgotten."""

    def is_whole(self, record: JobRecord) -> bool:
        """Whether the job finished and each file it wrote is still there, with the size it had."""

    def remove(self, earlier: JobRecord, inputs: Sequence[Artifact]) -> None:
        """Remove what that job wrote, and nothing else: what others put there stays, and the targets of links."""

    def describe(self, run_id: str, inputs: Sequence[Artifact]) -> Artifact:
        """What the job wrote, with its digest."""


BLOCKS = "this job writes there; move it away, or name another output"
"""Remedy for what has the name of a file that the job writes."""
FOREIGN = "name another output, or write beside it with --force, which leaves it as it is"
"""Remedy for other files."""


def refuse(output: str, names: Iterable[str], remedy: str) -> None:
    """Raise `ConfigError` where there are names of what no job wrote."""
    first = list(itertools.islice(names, _SHOWN))
    if first:
        shown = ", ".join(first[: _SHOWN - 1]) + (", ..." if len(first) == _SHOWN else "")
        raise ConfigError(f"output {output} holds {shown}, which no job of ours wrote: {remedy}")


def are_shards(contents: Iterable[bytes | None]) -> bool:
    """Whether one of these is the manifest, or the plan, of shards of ours."""
    return any(content is not None and b'"tokenizer_digest"' in content for content in contents)
