"""Tags of the MLflow run of a job: what people search by, and what a job passes on to those that read its output."""

import json
import socket
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from infra.provenance import command_line, git_repository, ray_job, ray_job_tags, user_name
from infra.tracking.corpus_files import BETWEEN, corpus_name
from jobs.runner.output.folder import record_at
from pipeline.config import Config
from pipeline.errors import SllmError
from pipeline.lineage import Artifact, JobRecord, identity_digest
from pipeline.redaction import redacted

if TYPE_CHECKING:
    from pipeline.shards.manifest import Manifest

_LONGEST = 5000
"""Characters of a tag that every MLflow store takes."""


def inherited_tags(inputs: Sequence[Artifact]) -> dict[str, str]:
    """The tags that a job passes on from its inputs: `segmenter`, `segmenter.digest`, `segmenter.options`,
    `tokenizer.digest` and `corpus`; where inputs differ, all values, joined by ` + `."""
    joined: dict[str, dict[str, None]] = {}
    for artifact in inputs:
        for key, value in _tags_of(artifact).items():
            joined.setdefault(key, {}).update(dict.fromkeys(value.split(BETWEEN)))
    return {key: BETWEEN.join(values)[:_LONGEST] for key, values in joined.items()}


def shards_tags(output: str) -> dict[str, str]:
    """The tags of a job that wrote shards: segmenter and tokenizer by their manifest."""
    manifest = _manifest(Artifact("shards", output, ""))
    return {} if manifest is None else _of_manifest(manifest)


def corpus_tag(config: Config) -> dict[str, str]:
    """The tag with the name of the corpus, which is also that of its data set."""
    return {"corpus": corpus_name(config.data.inputs)} if config.data.inputs else {}


def run_tags(record: JobRecord) -> dict[str, str]:
    """All tags at the start of a job: those it passes on, identity, parents, and those of `origin_tags`."""
    parents = [artifact.run_id for artifact in record.inputs if artifact.run_id]
    tags = {
        **record.tags,
        "sllm.job": record.job,
        "sllm.identity": record.identity,
        "sllm.parents": ",".join(dict.fromkeys(parents)),
        **origin_tags(record.job, record.versions),
    }
    return {key: redacted(value)[:_LONGEST] for key, value in tags.items() if value}


def origin_tags(verb: str, versions: Mapping[str, str]) -> dict[str, str]:
    """Tags that say by whom, where, how and with which code `sllm VERB` runs in this process."""
    commit = versions.get("git", "")
    tags = {
        "sllm.command": command_line(),
        "sllm.host": socket.gethostname(),
        **{f"version.{package}": version for package, version in versions.items()},
        **ray_job_tags(),
        "mlflow.user": user_name(),
        "mlflow.source.name": f"sllm {verb}",
        "mlflow.source.type": "JOB" if ray_job() else "LOCAL",
        "mlflow.source.git.commit": commit.split("+")[0],
        "mlflow.source.git.dirty": str("+" in commit).lower() if commit else "",
        **git_repository(),
    }
    return {key: redacted(value)[:_LONGEST] for key, value in tags.items() if value}


def _tags_of(artifact: Artifact) -> Mapping[str, str]:
    if artifact.kind not in ("shards", "model", "report"):
        return {}
    try:
        record = record_at(artifact.path)
    except (SllmError, OSError):
        record = None
    if record is not None and record.tags and record.output.digest == artifact.digest:
        return record.tags
    manifest = _manifest(artifact)
    return {} if manifest is None else _of_manifest(manifest)


def _manifest(artifact: Artifact) -> "Manifest | None":
    """Manifest of shards."""
    if artifact.kind != "shards":
        return None
    from pipeline.shards.reading import (
        open_shards,
    )  # slow to import, and not needed where a finished job is reused

    try:
        return open_shards(artifact.path).manifest
    except (SllmError, OSError):
        return None


def _of_manifest(manifest: "Manifest") -> dict[str, str]:
    fingerprint = manifest.segmenter
    options = fingerprint.get("options")
    tags = {
        "segmenter": str(fingerprint["name"]),
        "segmenter.digest": identity_digest(fingerprint),
        "segmenter.options": json.dumps(options, sort_keys=True) if options else "",
        "tokenizer.digest": manifest.tokenizer_digest,
    }
    return {key: value for key, value in tags.items() if value}
