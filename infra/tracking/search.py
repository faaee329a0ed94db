"""The records of jobs, read back from their MLflow runs. Each function here searches once, whatever it finds."""

import dataclasses
import json
import tempfile
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from infra.tracking.corpus_files import (
    FILE_LIST,
    FILES,
    OVERFULL,
    PATHS,
    CorpusFile,
    bucket,
    is_in,
    path_digest,
    read_list,
)
from infra.tracking.datasets import DIGEST_CHARACTERS, OUTPUT_CONTEXT, PATH_TAG, RUN_TAG
from infra.tracking.params import unflatten
from infra.tracking.store import client_of, resolve_uri, sqlite_path
from pipeline.errors import ConfigError, first_line
from pipeline.lineage import Artifact, JobRecord
from pipeline.redaction import redacted

if TYPE_CHECKING:
    from mlflow.entities import DatasetInput, Run

_PASSED_ON = ("segmenter", "segmenter.digest", "segmenter.options", "tokenizer.digest", "corpus")
"""Tags that a record holds too."""
_NAMES_A_SEARCH = 500
"""Run ids or digests in one filter."""


@dataclasses.dataclass(frozen=True)
class StoredJob:
    """A job as MLflow has it."""

    record: JobRecord
    """Its inputs have one artifact per corpus; in runs of earlier versions one per file."""
    tags: Mapping[str, str]
    status: str

    def has_file(self, sha256: str) -> bool | None:
        """Whether it read a corpus file with this content; None where the list of files has to be read for it."""
        if any(given.digest == sha256 for given in self.record.inputs):
            return True
        return is_in(self.tags, FILES, sha256)

    def has_path(self, path: str) -> bool | None:
        """Whether it had an input at this absolute path or URL; None where the list of files has to be read for it."""
        if any(given.path == path for given in self.record.inputs):
            return True
        return is_in(self.tags, PATHS, path_digest(path))


class RunSearch:
    """Searches one tracking store for jobs."""

    def __init__(self, uri: str) -> None:
        """Raises `ConfigError` where `uri` is an SQLite file that does not exist."""
        self._uri = resolve_uri(uri)
        file = sqlite_path(self._uri)
        if file is not None and not file.is_file():
            raise ConfigError(f"there is no MLflow store at {file}: name yours with --tracking URI")
        self._experiments: list[str] | None = None
        self.searches = 0
        """Calls to the store so far."""

    def run(self, run_id: str) -> JobRecord | None:
        """The record of the job of this run; None where the store lacks it, or it is no job of ours."""
        found = self.runs([run_id]).get(run_id)
        return None if found is None else found.record

    def runs(self, run_ids: Iterable[str]) -> dict[str, StoredJob]:
        """The jobs of these runs that the store has, by run."""
        return {job.record.run_id: job for job in self._search_in("attributes.run_id", run_ids)}

    def children(self, run_id: str) -> list[StoredJob]:
        """The jobs below a parent run, oldest first."""
        return self._search(f"tags.`mlflow.parentRunId` = '{run_id}'")

    def corpus_files(self, run_id: str) -> list[CorpusFile] | None:
        """The corpus files of a run that made shards; None where the store has no list of them, or cannot be read."""
        from mlflow.exceptions import MlflowException

        with tempfile.TemporaryDirectory(prefix="sllm-lineage-") as folder:
            try:
                file = client_of(self._uri).download_artifacts(run_id, FILE_LIST, folder)
                return read_list(Path(file).read_text(encoding="utf-8"))
            except (MlflowException, OSError, ValueError, TypeError):
                return None

    def readers_of(self, digests: Iterable[str]) -> list[StoredJob]:
        """The finished jobs that read shards or models with these digests; in older stores corpus files too."""
        wanted = set(digests)
        jobs = self._search_in("dataset.digest", sorted({digest[:DIGEST_CHARACTERS] for digest in wanted}))
        return [
            job
            for job in jobs
            if job.record.finished and wanted & {given.digest for given in job.record.inputs}
        ]

    def readers_of_file(self, sha256: str) -> list[StoredJob]:
        """The finished jobs that read a corpus file with this content, oldest first.

        Of a job with very many files only their list decides: its `has_file` is None.
        """
        tag = bucket(FILES, sha256)
        found = [
            *self._with_tag(tag, sha256),
            *self._search(f"tags.`{tag}` = '{OVERFULL}'"),
            *self.readers_of([sha256]),
        ]
        return _oldest_first(
            job for job in found if job.record.finished and job.has_file(sha256) is not False
        )

    def readers_of_path(self, path: str) -> list[StoredJob]:
        """The finished jobs with an input at this absolute path or URL, oldest first; not those of earlier versions.

        Of a job with very many files only their list decides: its `has_path` is None.
        """
        digest = path_digest(path)
        tag = bucket(PATHS, digest)
        found = [*self._with_tag(tag, digest), *self._search(f"tags.`{tag}` = '{OVERFULL}'")]
        return _oldest_first(job for job in found if job.record.finished)

    def _with_tag(self, tag: str, digest: str) -> list[StoredJob]:
        prefix, _, _ = tag.rpartition(".")
        found = self._search(f"tags.`{tag}` LIKE '%{digest[:10]}%'")
        return [job for job in found if is_in(job.tags, prefix, digest)]

    def _search_in(self, attribute: str, names: Iterable[str]) -> list[StoredJob]:
        wanted = [name for name in dict.fromkeys(names) if name and "'" not in name]
        found: list[StoredJob] = []
        for start in range(0, len(wanted), _NAMES_A_SEARCH):
            some = ", ".join(f"'{name}'" for name in wanted[start : start + _NAMES_A_SEARCH])
            found += self._search(f"{attribute} IN ({some})")
        return found

    def _search(self, filter_string: str) -> list[StoredJob]:
        """The jobs of ours that the filter takes, oldest first.

        Raises `ConfigError` where the store cannot be queried.
        """
        from mlflow.exceptions import MlflowException

        client = client_of(self._uri)
        runs: list[Run] = []
        token: str | None = None
        try:
            if self._experiments is None:
                self._experiments = [one.experiment_id for one in client.search_experiments()]
            while True:
                self.searches += 1
                page = client.search_runs(
                    self._experiments,
                    filter_string=filter_string,
                    order_by=["attributes.start_time ASC"],
                    page_token=token,
                )
                runs += page
                token = page.token
                if not token:
                    break
        except MlflowException as error:
            line = redacted(first_line(error))
            raise ConfigError(f"the MLflow store {redacted(self._uri)} cannot be queried: {line}") from error
        return [StoredJob(record, run.data.tags, run.info.status) for run in runs if (record := _record(run))]


def _oldest_first(jobs: Iterable[StoredJob]) -> list[StoredJob]:
    by_run = {job.record.run_id: job for job in jobs}
    return sorted(by_run.values(), key=lambda job: (job.record.started, job.record.run_id))


def _record(run: "Run") -> JobRecord | None:
    """The job record in a run, as far as MLflow stores it; None for a run that is not a job of ours."""
    tags = run.data.tags
    if "sllm.job" not in tags:
        return None
    made = "sllm.output.digest" in tags
    given = [(one, _tags(one)) for one in (run.inputs.dataset_inputs if run.inputs else ())]
    return JobRecord(
        job=tags["sllm.job"],
        identity=tags.get("sllm.identity", ""),
        config=unflatten(run.data.params),
        inputs=tuple(
            _artifact(one, tags_of_input)
            for one, tags_of_input in given
            if tags_of_input.get("mlflow.data.context") != OUTPUT_CONTEXT
        ),
        output=Artifact(
            tags.get("sllm.output.kind", ""),
            tags.get("sllm.output.path", ""),
            tags.get("sllm.output.digest", ""),
            run_id=run.info.run_id,
        ),
        run_id=run.info.run_id,
        metrics=dict(run.data.metrics),
        versions={
            key.removeprefix("version."): value for key, value in tags.items() if key.startswith("version.")
        },
        started=_time(run.info.start_time) or "",
        finished=_time(run.info.end_time) if made else None,
        user=tags.get("mlflow.user", ""),
        host=tags.get("sllm.host", ""),
        command=tags.get("sllm.command", ""),
        ray_job=tags.get("ray.submission_id") or tags.get("ray.job_id", ""),
        tags={key: tags[key] for key in _PASSED_ON if key in tags},
    )


def _tags(given: "DatasetInput") -> dict[str, str]:
    return {tag.key: tag.value for tag in given.tags}


def _artifact(given: "DatasetInput", tags: Mapping[str, str]) -> Artifact:
    """An input. Path and run are in tags of the input: equal content of another run has the same dataset."""
    profile = json.loads(given.dataset.profile or "{}")
    return Artifact(
        kind=profile.get("kind", ""),
        path=tags.get(PATH_TAG) or json.loads(given.dataset.source).get("uri", ""),
        digest=profile.get("sha256", given.dataset.digest),
        run_id=tags.get(RUN_TAG) or profile.get("run_id"),
    )


def _time(milliseconds: int | None) -> str | None:
    if milliseconds is None:
        return None
    return datetime.fromtimestamp(milliseconds / 1000, UTC).isoformat(timespec="seconds")
