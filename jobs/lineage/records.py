"""The records of the jobs upstream of an artifact, read level by level: beside the artifacts, else from MLflow."""

import hashlib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from infra.storage import Folder, StorageError
from infra.tracking.corpus_files import CorpusFile, files_of
from infra.tracking.search import RunSearch, StoredJob
from infra.tracking.store import resolve_uri
from jobs.runner.output.folder import record_at
from pipeline.config.paths import PathError, is_url, resolved_tracking_uri
from pipeline.errors import ConfigError, ShardError
from pipeline.lineage import MANIFEST_NAME, Artifact, JobRecord
from pipeline.redaction import MASK
from pipeline.shards.manifest import Manifest

NOT_THERE, NOT_REACHED = "no longer there", "cannot be reached"


class Records:
    """The records of jobs by the artifacts that they wrote."""

    def __init__(self, tracking: str | None = None) -> None:
        """`tracking`: the store that is asked; None for the one that the record of a job downstream names."""
        self._tracking = tracking
        self._found: dict[Artifact, tuple[JobRecord | None, str | None]] = {}
        self._searches: dict[str, RunSearch | ConfigError] = {}
        self._stored: dict[str, tuple[StoredJob, RunSearch]] = {}
        self._files: dict[str, list[CorpusFile] | None] = {}
        self._documents: dict[tuple[str, str], dict[str, dict[str, int]]] = {}
        self._manifests: dict[tuple[str, str], Manifest | None] = {}

    def of(self, artifact: Artifact) -> tuple[JobRecord | None, str | None]:
        """The record of the job that wrote it, if there is one, and how the artifact differs from the recorded one."""
        return self._found[artifact]

    def load(self, artifact: Artifact, record: JobRecord | None = None) -> None:
        """Find the records upstream of an artifact, whose own is `record` if that is known.

        The store is asked once for each level, for all artifacts that are missing or replaced.
        """
        if record is not None:
            self._found[artifact] = record, None
        level: list[tuple[Artifact, JobRecord | None]] = [(artifact, record)]
        while level:
            missing: dict[str, list[Artifact]] = {}
            for one, asked_by in level:
                if one in self._found:
                    continue
                self._found[one] = found = beside(one)
                if found[0] is None and one.run_id:
                    missing.setdefault(self._tracking or store_of(asked_by), []).append(one)
            for uri, artifacts in missing.items():
                self._ask(uri, artifacts)
            made = {one: self._found[one][0] for one, _ in level}
            level = [
                (given, record)
                for record in made.values()
                if record is not None
                for given in self.inputs(record)
                if given not in self._found
            ]

    def add_stored(self, job: StoredJob, search: RunSearch) -> None:
        """Keep a job that was read from this store."""
        self._stored[job.record.run_id] = job, search

    def inputs(self, record: JobRecord) -> tuple[Artifact, ...]:
        """The inputs of a job, with each file of a corpus that MLflow has as one dataset, where their list is there."""
        stored, _ = self._stored.get(record.run_id, (None, None))
        if stored is None or stored.record is not record or not _has_whole_corpora(stored):
            return record.inputs
        files = self.files(record)
        if files is None:
            return record.inputs
        others = (one for one in record.inputs if one.kind != "corpus")
        return (*(Artifact("corpus", file.path, file.sha256) for file in files), *others)

    def files(self, record: JobRecord) -> list[CorpusFile] | None:
        """The corpus files of shards: by their manifest, else by the list in the store; None where neither is there."""
        if record.output.kind != "shards":
            return None
        if record.run_id not in self._files:
            manifest = self.manifest(record)
            _, search = self._stored.get(record.run_id, (None, None))
            from_store = (
                search.corpus_files(record.run_id) if manifest is None and search is not None else None
            )
            self._files[record.run_id] = from_store if manifest is None else files_of(manifest)
        return self._files[record.run_id]

    def documents(self, record: JobRecord, given: Artifact) -> dict[str, int] | None:
        """Documents of train and dev from a corpus file in shards; None where that is not known."""
        if given.kind != "corpus" or record.output.kind != "shards":
            return None
        key = record.run_id, record.output.digest
        if key not in self._documents:
            self._documents[key] = _by_content(self.files(record) or ())
        return self._documents[key].get(given.digest)

    def manifest(self, record: JobRecord) -> Manifest | None:
        """Manifest of the shards that a job wrote, if they are unchanged."""
        if record.output.kind != "shards":
            return None
        key = (record.output.path, record.output.digest)
        if key not in self._manifests:
            self._manifests[key] = _manifest(record)
        return self._manifests[key]

    def _ask(self, uri: str, artifacts: list[Artifact]) -> None:
        try:
            search = self._search(uri)
            jobs = search.runs(str(one.run_id) for one in artifacts)
        except ConfigError:
            search, jobs = None, {}
        for one in artifacts:
            _, note = self._found[one]
            job = jobs.get(str(one.run_id))
            if job is None or search is None:
                self._found[one] = None, f"{note}, and no MLflow store has its run" if note else note
            else:
                self.add_stored(job, search)
                self._found[one] = job.record, note

    def _search(self, uri: str) -> RunSearch:
        if uri not in self._searches:
            try:
                self._searches[uri] = RunSearch(uri)
            except ConfigError as error:
                self._searches[uri] = error
        found = self._searches[uri]
        if isinstance(found, ConfigError):
            raise found
        return found


def beside(artifact: Artifact) -> tuple[JobRecord | None, str | None]:
    """The record beside an artifact if it is that of this content, and how what is there differs."""
    # No job wrote these, and asking for the record of each file of a corpus at a URL takes long.
    if is_url(artifact.path) and artifact.kind in ("corpus", "segmenter", "tokenizer"):
        return None, None
    try:
        record = record_at(artifact.path)
    except StorageError:
        return None, NOT_REACHED
    if record is not None and record.output.digest == artifact.digest:
        return record, None
    if record is not None:
        return None, f"replaced since, by run {record.run_id}"
    is_here = is_url(artifact.path) or not artifact.path.startswith("/") or Path(artifact.path).exists()
    return None, None if is_here and not artifact.run_id else NOT_THERE


def store_of(record: JobRecord | None) -> str:
    """The store that a record names; that of the environment if it names none, or its password is not known here."""
    uri = section(record.config, "tracking").get("uri") if record is not None else None
    if isinstance(uri, str) and MASK not in uri:
        try:
            return resolve_uri(resolved_tracking_uri(uri))
        except PathError:  # a variable that is not set here
            pass
    return resolve_uri(None)


def section(config: Mapping[str, Any], name: str) -> dict[str, Any]:
    """A section of a record's configuration; empty where there is none."""
    found = config.get(name)
    return found if isinstance(found, dict) else {}


def _by_content(files: Iterable[CorpusFile]) -> dict[str, dict[str, int]]:
    found: dict[str, dict[str, int]] = {}
    for file in files:
        if file.documents is not None:
            counts = found.setdefault(file.sha256, {"train": 0, "dev": 0})
            for split, documents in file.documents.items():
                counts[split] += documents
    return found


def _manifest(record: JobRecord) -> Manifest | None:
    try:
        content = Folder(record.output.path).read(MANIFEST_NAME)
        if content is None or hashlib.sha256(content).hexdigest() != record.output.digest:
            return None
        return Manifest.parse(content, record.output.path)
    except (StorageError, ShardError, ConfigError, OSError):
        return None


def _has_whole_corpora(job: StoredJob) -> bool:
    return any(key.startswith("sllm.files.") for key in job.tags)
