"""Walks from artifact to artifact: back by the records beside them, forward by the MLflow store."""

import dataclasses
import hashlib
import json
from pathlib import Path
from typing import Any

from infra.storage import Folder, StorageError
from infra.tracking.search import RunSearch
from infra.tracking.store import resolve_uri
from jobs.lineage.node import LineageNode
from jobs.runner.output_folder import record_at
from pipeline.config.paths import is_url
from pipeline.errors import ConfigError, ShardError
from pipeline.lineage import MANIFEST_NAME, Artifact, JobRecord
from pipeline.redaction import MASK
from pipeline.shards.manifest import Manifest


def walk_back(
    artifact: Artifact,
    tracking: str | None = None,
    asked_by: JobRecord | None = None,
    above: frozenset[str] = frozenset(),
) -> LineageNode:
    """The tree of inputs of this artifact, back to artifacts that no job made.

    It uses the records beside the artifacts; MLflow is queried only for artifacts that are missing or replaced.
    `above`: artifacts made from this one, to detect cycles in damaged records.
    """
    this = f"{artifact.kind} {artifact.path} {artifact.digest}"
    if this in above:
        return LineageNode(artifact, note="its record is damaged: it is named among its own inputs")
    record, note = _record_of(artifact, tracking, asked_by)
    if record is None:
        return LineageNode(artifact, note=note)
    manifest = _manifest(record)
    inputs = tuple(
        dataclasses.replace(
            walk_back(given, tracking, record, above | {this}), documents=_documents(manifest, given)
        )
        for given in record.inputs
    )
    return dataclasses.replace(_step(record, artifact), note=note, made_from=inputs)


def walk_forward(
    artifact: Artifact,
    search: RunSearch,
    seen: frozenset[str] = frozenset(),
    documents: dict[str, int] | None = None,
) -> LineageNode:
    """The tree of artifacts made from this content.

    `documents`, of shards: documents of the queried file in their splits. A file only in dev trained no model; a file
    in neither split was not used.
    """
    seen |= {artifact.digest}
    nexts = []
    found = (
        search.readers_of_file(artifact.digest)
        if artifact.kind == "corpus"
        else search.readers_of([artifact.digest])
    )
    for record in (job.record for job in found):
        if record.output.digest in seen or not _went_into(record, documents):
            continue
        here = _documents(_manifest(record), artifact)
        onward = walk_forward(record.output, search, seen, here)
        nexts.append(
            dataclasses.replace(_step(record, record.output), went_into=onward.went_into, documents=here)
        )
    return LineageNode(artifact, went_into=tuple(nexts))


def _went_into(record: JobRecord, documents: dict[str, int] | None) -> bool:
    if documents is None:
        return True
    return documents["train"] > 0 or (documents["dev"] > 0 and not record.job.startswith("train-"))


def _manifest(record: JobRecord) -> Manifest | None:
    """Manifest of the shards that a job wrote, if they are unchanged."""
    if record.output.kind != "shards":
        return None
    try:
        content = Folder(record.output.path).read(MANIFEST_NAME)
        if content is None or hashlib.sha256(content).hexdigest() != record.output.digest:
            return None
        return Manifest.parse(content, record.output.path)
    except (StorageError, ShardError, ConfigError, OSError):
        return None


def _documents(manifest: Manifest | None, given: Artifact) -> dict[str, int] | None:
    return None if manifest is None or given.kind != "corpus" else manifest.documents_of(given.digest)


def _record_of(
    artifact: Artifact, tracking: str | None, asked_by: JobRecord | None
) -> tuple[JobRecord | None, str | None]:
    path = Path(artifact.path)
    # No job wrote these, and asking for the record of each file of a corpus at a URL takes long.
    asked = not is_url(artifact.path) or artifact.kind not in ("corpus", "segmenter", "tokenizer")
    try:
        record = record_at(artifact.path) if asked else None
    except StorageError:
        return None, "cannot be reached"
    if record is not None and record.output.digest == artifact.digest:
        return record, None
    if not artifact.run_id:
        note = (
            None if path.exists() or "://" in artifact.path or artifact.path[:1] != "/" else "no longer there"
        )
        return None, note
    note = "no longer there" if record is None else f"replaced since, by run {record.run_id}"
    try:
        return RunSearch(tracking or store_of(asked_by)).run(artifact.run_id), note
    except ConfigError:
        return None, f"{note}, and no MLflow store has its run"


def store_of(record: JobRecord | None) -> str:
    """The store that a record names; that of the environment if it names none, or its password was masked."""
    uri = _section(record, "tracking").get("uri") if record is not None else None
    return resolve_uri(uri if isinstance(uri, str) and MASK not in uri else None)


def _step(record: JobRecord, artifact: Artifact) -> LineageNode:
    segmenter = tokenizer = None
    if record.output.kind == "shards":
        cut_by, chosen = (_section(record, name) for name in ("segmenter", "tokenizer"))
        options = cut_by.get("options")
        segmenter = f"{cut_by.get('name')}" + (f" {json.dumps(options)}" if options else "")
        if chosen:
            trained = f"byte-level BPE of {chosen.get('vocab_size')}, trained on the corpus"
            tokenizer = str(chosen.get("path") or trained)
    return LineageNode(
        artifact,
        job=record.job,
        finished=record.finished,
        segmenter=segmenter,
        tokenizer=tokenizer,
        started=record.started,
        segmenter_digest=_segmenter_digest(record),
        versions=record.versions,
        config=record.config,
        code=record.versions.get("git") or record.versions.get("sllm"),
        metrics=record.metrics,
    )


def _segmenter_digest(record: JobRecord) -> str | None:
    return next((given.digest for given in record.inputs if given.kind == "segmenter"), None)


def _section(record: JobRecord, name: str) -> dict[str, Any]:
    """A section of a record's configuration; empty where there is none."""
    section = record.config.get(name)
    return section if isinstance(section, dict) else {}
