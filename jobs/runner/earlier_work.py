"""What an output folder holds of an earlier job, and what a job makes of it: reuse, continue, replace or refuse."""

import dataclasses
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from infra.tracking.store import resolve_uri
from jobs.runner.identity import digests_of, has_grown, part_of, refusal, with_current_options
from jobs.runner.output.checks import OutputFolder
from jobs.runner.output.folder import absolute
from pipeline.config import Config
from pipeline.errors import ConfigError
from pipeline.lineage import Artifact, JobRecord, identity
from pipeline.redaction import redacted, redacted_tree


@dataclass(frozen=True)
class Work:
    """What a job is to do: by this it is compared with the work that a folder holds."""

    job: str
    inputs: tuple[Artifact, ...]
    """Without secrets, with absolute paths."""
    tree: dict[str, Any]
    """The whole configuration, without secrets."""
    part: dict[str, Any]
    """The values of it that decide the result, by their dotted keys, without secrets."""
    identity: str
    has_no_secrets: bool
    """Whether `part` is all that decides the result."""
    sections: Sequence[str]
    without: Sequence[str]
    grows: str | None


def work_of(
    job: str,
    config: Config,
    inputs: Sequence[Artifact],
    sections: Sequence[str],
    without: Sequence[str],
    grows: str | None,
) -> Work:
    """The work of a job; the arguments are those of `run_job`."""
    whole = config.model_dump(mode="json")
    tree = redacted_tree(stored_tree(config))
    part, with_secrets = part_of(tree, sections, without), part_of(whole, sections, without)
    shown = (dataclasses.replace(artifact, path=redacted(absolute(artifact.path))) for artifact in inputs)
    return Work(
        job=job,
        inputs=tuple(shown),
        tree=tree,
        part=part,
        identity=identity(job, with_secrets, inputs),
        has_no_secrets=part == with_secrets,
        sections=sections,
        without=without,
        grows=grows,
    )


def stored_tree(config: Config) -> dict[str, Any]:
    """The configuration as it is recorded: with the URI of MLflow that it means, from the environment or by default."""
    whole = config.model_dump(mode="json")
    return whole | {"tracking": whole["tracking"] | {"uri": resolve_uri(whole["tracking"]["uri"])}}


@dataclass(frozen=True)
class EarlierWork:
    """The record in an output folder that concerns a job, and what becomes of its work: at most one is true."""

    record: JobRecord | None = None
    is_finished: bool = False
    """It is the job's own work and whole: it is reused."""
    is_replaced: bool = False
    is_grown: bool = False
    """It had fewer steps: the job continues it."""

    @property
    def unfinished(self) -> JobRecord | None:
        """The record, if its job was interrupted and is continued."""
        goes_on = self.record is not None and not self.is_replaced and self.record.finished is None
        return self.record if goes_on else None

    @property
    def replaced(self) -> JobRecord | None:
        """The record, if its files are removed first."""
        return self.record if self.is_replaced else None

    @property
    def grown(self) -> JobRecord | None:
        """The record, if its job had finished with fewer steps or was interrupted."""
        return self.record if self.is_grown else None


def earlier_work(
    folder: OutputFolder,
    output: str,
    work: Work,
    is_intact: Callable[[JobRecord], bool],
    force: bool,
    replace_other: bool,
) -> EarlierWork:
    """What `folder` holds; `is_intact`, `force` and `replace_other` are those of `run_job`.

    Raises `ConfigError` where the folder holds the work of a job of another identity.
    """
    found = folder.read()
    if found is None or force:
        return EarlierWork(found, is_replaced=force)
    then = part_of(with_current_options(found.config), work.sections, work.without)
    same_work = found.job == work.job and digests_of(found.inputs) == digests_of(work.inputs)
    if same_work and then != work.part and work.grows and has_grown(then, work.part, work.grows):
        return EarlierWork(found, is_grown=True)
    # An option that is newer than the record changes the identity, and not the work.
    if found.identity == work.identity or (same_work and then == work.part and work.has_no_secrets):
        return EarlierWork(found, is_finished=folder.is_whole(found) and is_intact(found))
    if replace_other and found.job == work.job:
        return EarlierWork(found, is_replaced=True)
    if found.finished is not None or folder.left_something(work.inputs):
        raise ConfigError(refusal(found, work.job, then, work.part, work.inputs, output))
    return EarlierWork()
