"""A node of the lineage tree, as the terminal, JSON and pages show it."""

import dataclasses
from typing import Any

from pipeline.lineage import Artifact


@dataclasses.dataclass(frozen=True)
class LineageNode:
    """A node of the lineage tree: an artifact, the job that made it, and the adjacent artifacts."""

    artifact: Artifact
    job: str | None = None
    """Verb of the job that made it; None for an artifact that no job made."""
    started: str | None = None
    """UTC, ISO 8601, as `finished`."""
    finished: str | None = None
    user: str | None = None
    """Who ran the job; with `host`, `ray_job` and `command` None where the record does not say."""
    host: str | None = None
    ray_job: str | None = None
    """Submission id of the Ray job."""
    command: str | None = None
    """The command that ran the job."""
    again: str | None = None
    """A command that makes the artifact again."""
    segmenter: str | None = None
    """Name, and options as JSON where there are any, of the segmenter of shards."""
    segmenter_digest: str | None = None
    """SHA-256 (hex) of its weights; of one without weights, of its name, version and options."""
    tokenizer: str | None = None
    code: str | None = None
    """Git commit or version of sllm."""
    versions: dict[str, str] = dataclasses.field(default_factory=dict)
    """Versions of packages, and `git`."""
    config: dict[str, Any] = dataclasses.field(default_factory=dict)
    """Configuration of the job, with secrets masked."""
    metrics: dict[str, float] = dataclasses.field(default_factory=dict)
    note: str | None = None
    """How the artifact differs from the recorded one."""
    is_verified: bool | None = None
    """With `--verify`: whether its content was read and is as recorded; None where it was not read."""
    documents: dict[str, int] | None = None
    """For a corpus file and shards: documents of the file in their train and dev splits; None if not known."""
    made_from: tuple["LineageNode", ...] = ()
    went_into: tuple["LineageNode", ...] = ()
    stale: tuple["LineageNode", ...] = ()
    """What was made from other content that was at the path of this artifact."""
