"""The records of jobs, read back from their MLflow runs."""

import json
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from infra.tracking.operations import DIGEST_CHARACTERS, OUTPUT_CONTEXT
from infra.tracking.params import unflatten
from infra.tracking.store import client_of, resolve_uri, sqlite_path
from pipeline.errors import ConfigError, first_line
from pipeline.lineage import Artifact, JobRecord
from pipeline.redaction import redacted

if TYPE_CHECKING:
    from mlflow.entities import DatasetInput, Run


class RunSearch:
    """Searches one tracking store for jobs."""

    def __init__(self, uri: str) -> None:
        """Raises `ConfigError` where `uri` is an SQLite file that does not exist."""
        self._uri = resolve_uri(uri)
        file = sqlite_path(self._uri)
        if file is not None and not file.is_file():
            raise ConfigError(f"there is no MLflow store at {file}: name yours with --tracking URI")

    def run(self, run_id: str) -> JobRecord | None:
        """The record of the job of this run; None where the store lacks it."""
        from mlflow.exceptions import MlflowException

        try:
            return _record(client_of(self._uri).get_run(run_id))
        except MlflowException:
            return None

    def jobs_with_input(self, artifact: Artifact) -> list[JobRecord]:
        """The finished jobs that read this content, at any path; oldest first.

        Raises `ConfigError` where the store cannot be queried.
        """
        from mlflow.exceptions import MlflowException

        client = client_of(self._uri)
        found: list[JobRecord] = []
        token: str | None = None
        try:
            experiments = [experiment.experiment_id for experiment in client.search_experiments()]
            while True:
                page = client.search_runs(
                    experiments,
                    filter_string=f"dataset.digest = '{artifact.digest[:DIGEST_CHARACTERS]}'",
                    order_by=["attributes.start_time ASC"],
                    page_token=token,
                )
                found += [record for run in page if (record := _record(run))]
                token = page.token
                if not token:
                    break
        except MlflowException as error:
            line = redacted(first_line(error))
            raise ConfigError(f"the MLflow store {redacted(self._uri)} cannot be queried: {line}") from error
        return [
            record
            for record in found
            if record.finished and artifact.digest in {given.digest for given in record.inputs}
        ]


def _record(run: "Run") -> JobRecord | None:
    """The job record in a run, as far as MLflow stores it; None for a run that is not a job of ours."""
    tags = run.data.tags
    if "sllm.job" not in tags:
        return None
    made = "sllm.output.digest" in tags
    return JobRecord(
        job=tags["sllm.job"],
        identity=tags.get("sllm.identity", ""),
        config=unflatten(run.data.params),
        inputs=tuple(
            _artifact(given)
            for given in (run.inputs.dataset_inputs if run.inputs else ())
            if not any(tag.key == "mlflow.data.context" and tag.value == OUTPUT_CONTEXT for tag in given.tags)
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
    )


def _artifact(given: "DatasetInput") -> Artifact:
    profile = json.loads(given.dataset.profile or "{}")
    return Artifact(
        kind=profile.get("kind", ""),
        path=json.loads(given.dataset.source).get("uri", ""),
        digest=profile.get("sha256", given.dataset.digest),
        run_id=profile.get("run_id"),
    )


def _time(milliseconds: int | None) -> str | None:
    if milliseconds is None:
        return None
    return datetime.fromtimestamp(milliseconds / 1000, UTC).isoformat(timespec="seconds")
