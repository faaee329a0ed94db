"""What an argument of `sllm lineage` names: a folder, file, URL or pattern, a run, or a model of the registry."""

import dataclasses
import os
import re
from pathlib import Path

from infra.registry.models import find_model
from infra.tracking.corpus_files import corpus_digest
from infra.tracking.search import RunSearch, StoredJob
from infra.tracking.store import resolve_uri
from jobs.lineage.records import beside, store_of
from jobs.runner.output.folder import absolute, artifact_at, record_at
from pipeline.config import DataConfig
from pipeline.config.paths import is_url
from pipeline.errors import ConfigError, CorpusError
from pipeline.lineage import Artifact, JobRecord, digest_file, kind_of

_RUN_ID = re.compile(r"(?:runs:/)?([0-9a-f]{32})(?:/.*)?")
_MODEL = re.compile(r"models:/.+|m-[0-9a-f]{32}|[^/@]+@[A-Za-z][\w-]*|[^/.~][^/]*/v?\d+")
"""Also NAME@ALIAS and NAME/VERSION alone, where no file is named so."""


@dataclasses.dataclass(frozen=True)
class Subject:
    """What is asked about."""

    artifact: Artifact
    """Its digest is empty where nothing is at its path any more, and for a run without an output."""
    record: JobRecord | None = None
    """The record of the job that made it."""
    files: tuple[Artifact, ...] = ()
    """The files of a folder or pattern of corpus files."""
    children: tuple[JobRecord, ...] = ()
    """The jobs of a run that has no output of its own: of `sllm run` or `sllm compare`."""
    status: str | None = None
    """Of a run that wrote nothing."""
    stored: tuple[StoredJob, RunSearch] | None = None
    """The job as MLflow has it, and where, if the run was asked about."""

    @property
    def store(self) -> str:
        """The store that its record names, else that of the environment."""
        return store_of(self.record)


def subject_of(given: str, tracking: str | None) -> Subject:
    """What `given` names. Raises `ConfigError` where there is nothing, or the store lacks it."""
    if not is_url(given) and not os.path.lexists(given):
        if match := _RUN_ID.fullmatch(given):
            return _of_run(match[1], RunSearch(tracking or resolve_uri(None)))
        if _MODEL.fullmatch(given) and (given.startswith("models:/") or _has_store(tracking)):
            model = find_model(given if given.startswith("models:/") else f"models:/{given}", tracking)
            if not model.run_id:
                raise ConfigError(f"MLflow does not say which run made {given}; name its folder")
            return _of_run(model.run_id, RunSearch(model.store))
    if not is_url(given) and (files := _corpus_files(given)):
        digest = corpus_digest(file.digest for file in files)
        return Subject(Artifact("corpus", absolute(given), digest), files=files)
    record = record_at(given) if is_url(given) or Path(given).is_dir() else None
    try:
        return Subject(artifact_at(given), record)
    except ConfigError:
        if not os.path.lexists(given) and not is_url(given) and _has_store(tracking):
            gone = Artifact("corpus", str(Path(given).absolute()), "")
            if RunSearch(tracking or resolve_uri(None)).readers_of_path(gone.path):
                return Subject(gone)
        raise


def _of_run(run_id: str, search: RunSearch) -> Subject:
    job = search.runs([run_id]).get(run_id)
    if job is not None and job.record.output.digest:
        artifact = job.record.output
        own, _ = beside(artifact)
        return Subject(artifact, own or job.record, stored=(job, search))
    children = tuple(child.record for child in search.children(run_id) if child.record.output.digest)
    if job is None and not children:
        raise ConfigError(
            f"the MLflow store has no run {run_id} of a job of ours: name the store with --tracking URI"
        )
    path = run_id if job is None else str(job.record.config.get("output") or run_id)
    artifact = Artifact("run", path, "", run_id)
    if job is None:
        return Subject(artifact, children=children)
    status = (
        f"{job.status.lower()}: {job.tags['sllm.error']}" if "sllm.error" in job.tags else job.status.lower()
    )
    return Subject(artifact, job.record, children=children, status=status)


def _has_store(tracking: str | None) -> bool:
    try:
        RunSearch(tracking or resolve_uri(None))
    except ConfigError:
        return False
    return True


def _corpus_files(given: str) -> tuple[Artifact, ...]:
    """The files of a local folder without a record that is no shards, model or tokenizer, or of a pattern.

    They are read for their digests.
    """
    path = Path(given)
    is_folder = path.is_dir() and record_at(given) is None
    if is_folder and kind_of(lambda name: (path / name).is_file()) != "corpus":
        return ()
    if not is_folder and (os.path.lexists(given) or not set("*?[") & set(given)):
        return ()
    from pipeline.corpus.file_names import path_on_disk  # its package reads Parquet
    from pipeline.corpus.files.inputs import find_sources

    try:
        sources = find_sources(DataConfig(inputs=(given,)), say=lambda line: None)
    except CorpusError:
        return ()
    return tuple(Artifact("corpus", one.path, digest_file(path_on_disk(one.path))) for one in sources)
