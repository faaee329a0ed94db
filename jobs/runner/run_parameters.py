"""Parameters and tags of the MLflow run of a job."""

import json
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from infra.provenance import ray_job_tags
from jobs.runner.identity import value_at
from pipeline.errors import SllmError
from pipeline.lineage import Artifact, JobRecord

if TYPE_CHECKING:
    from pipeline.shards.manifest import Manifest


def run_parameters(
    tree: Mapping[str, Any], keys: Sequence[str], inputs: Sequence[Artifact]
) -> dict[str, Any]:
    """The parameters: the configuration at the keys that the job uses, and segmenter and tokenizer of its shards.

    If several shard folders differ in these, the names are joined by ` + `.
    """
    found: dict[str, Any] = {}
    for key in ("output", "tracking", *keys):
        *parents, last = key.split(".")
        node = found
        for parent in parents:
            node = node.setdefault(parent, {})
        node[last] = value_at(tree, key)
    made = [manifest for artifact in inputs if (manifest := _manifest(artifact)) is not None]
    if made:
        fingerprints = [one.segmenter for one in made]
        found["segmenter"] = {
            "name": _joined([str(one["name"]) for one in fingerprints]),
            "options": _joined([json.dumps(one.get("options", {}), sort_keys=True) for one in fingerprints]),
        }
        found["tokenizer"] = {"digest": _joined([one.tokenizer_digest for one in made])}
    return found


def _manifest(artifact: Artifact) -> "Manifest | None":
    """Manifest of shards that a job reads."""
    if artifact.kind != "shards":
        return None
    from pipeline.shards.reading import (
        open_shards,
    )  # slow to import, and not needed where a finished job is reused

    try:
        return open_shards(artifact.path).manifest
    except (SllmError, OSError):
        return None


def _joined(values: Sequence[str]) -> str:
    return " + ".join(dict.fromkeys(values))


def run_tags(record: JobRecord) -> dict[str, str]:
    """The tags: identity, parents, versions, Ray job."""
    parents = [artifact.run_id for artifact in record.inputs if artifact.run_id]
    tags = {
        "sllm.job": record.job,
        "sllm.identity": record.identity,
        "sllm.parents": ",".join(dict.fromkeys(parents)),
        **{f"version.{package}": version for package, version in record.versions.items()},
        **ray_job_tags(),
    }
    if commit := record.versions.get("git"):
        tags["mlflow.source.git.commit"] = commit.split("+")[0]
    return {key: value for key, value in tags.items() if value}
