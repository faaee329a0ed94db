"""OpenLineage events of jobs, for the catalogue of a company (https://openlineage.io/spec).

Where they go is the configuration of the client library: `openlineage.yml`, or variables such as OPENLINEAGE_URL.
`openlineage` is imported where it is needed.
"""

import contextlib
import dataclasses
import logging
import os
import queue
import threading
import uuid
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from infra.provenance import git_repository
from infra.tracking.run import ActiveRun
from pipeline.config import TrackingConfig
from pipeline.config.paths import is_url
from pipeline.errors import ConfigError, first_line
from pipeline.lineage import Artifact, JobRecord
from pipeline.redaction import redacted

if TYPE_CHECKING:
    from openlineage.client import OpenLineageClient

log = logging.getLogger("sllm")

LAST_SECONDS = 10.0
"""Longest wait at the end of a job for events that are being sent."""
MOST_FILES = 100
"""Of more corpus files the folders are named, not the files: catalogues show a data set each."""
_PRODUCER = "urn:sllm"
_NAMESPACE = "sllm"


def open_client(tracking: TrackingConfig) -> "OpenLineageClient | None":
    """The client library's client; None without `tracking.openlineage`.

    Raises `ConfigError` where the library is missing or its configuration is wrong.
    """
    if not tracking.openlineage:
        return None
    try:
        from openlineage.client import OpenLineageClient
    except ImportError as error:
        raise ConfigError(
            "tracking.openlineage needs the package openlineage-python: install it, here and where jobs run"
        ) from error
    logging.getLogger("openlineage").setLevel(logging.ERROR)  # each failure would be a traceback
    try:
        client = OpenLineageClient()
    except Exception as error:
        raise ConfigError(
            f"tracking.openlineage: the configuration of the OpenLineage client cannot be used "
            f"({redacted(first_line(error))}): see openlineage.yml or the variables OPENLINEAGE_..."
        ) from error
    if client.transport.kind == "console":
        raise ConfigError(
            "tracking.openlineage: nothing says where events go: set OPENLINEAGE_URL, or name a transport in "
            "openlineage.yml"
        )
    return client


class JobEvents:
    """The events of one job; a thread sends them, and what cannot be sent is one warning."""

    def __init__(
        self, client: "OpenLineageClient | None", record: JobRecord, run: ActiveRun, description: str
    ) -> None:
        """`record` is replaced when the job knows more; the last one is in the last event."""
        self.record = record
        self._client, self._run, self._description = client, run, description
        self._run_id = str(uuid.UUID(hex=run.run_id or run.key))
        self._waiting: queue.SimpleQueue[Any] = queue.SimpleQueue()
        self._failed = False
        self._thread = threading.Thread(target=self._send, name="openlineage", daemon=True)
        if client is not None:
            self._thread.start()

    def emit(self, state: str, error: BaseException | None = None) -> None:
        """Queue an event: START, COMPLETE, FAIL or ABORT."""
        if self._client is not None:
            self._waiting.put(
                job_event(state, self.record, self._run_id, self._run.above, self._description, error)
            )

    def close(self) -> None:
        """Wait until all events are sent, at most `LAST_SECONDS`."""
        if self._client is None:
            return
        self._waiting.put(None)
        self._thread.join(LAST_SECONDS)
        if self._thread.is_alive():
            self._warn(f"no answer within {LAST_SECONDS:g} s")

    def _send(self) -> None:
        assert self._client is not None
        while (event := self._waiting.get()) is not None:
            try:
                self._client.emit(event)
            except Exception as error:
                self._warn(first_line(error))
        with contextlib.suppress(Exception):
            self._client.close(LAST_SECONDS)

    def _warn(self, why: str) -> None:
        if not self._failed:
            self._failed = True
            log.warning(f"warning: OpenLineage has not got all events of this job: {redacted(why)}")


@contextlib.contextmanager
def job_events(events: JobEvents) -> Iterator[JobEvents]:
    """A context in which a job runs: START, then COMPLETE, or FAIL, or ABORT where it was interrupted."""
    events.emit("START")
    try:
        yield events
    except BaseException as error:
        events.emit("ABORT" if isinstance(error, KeyboardInterrupt | SystemExit) else "FAIL", error)
        raise
    else:
        events.emit("COMPLETE")
    finally:
        events.close()


def job_event(
    state: str,
    record: JobRecord,
    run_id: str,
    parent: tuple[str, str] | None,
    description: str,
    error: BaseException | None = None,
) -> Any:
    """The event (`openlineage.client.event_v2.RunEvent`) of a job that begins or has ended.

    `run_id` is a UUID: MLflow's id of the run. `parent`: UUID and name of the command with several jobs, if any.
    """
    from openlineage.client import event_v2, facet_v2

    event_v2.set_producer(_PRODUCER)
    namespace = os.environ.get("OPENLINEAGE_NAMESPACE") or _NAMESPACE
    shown = {
        **record.tags,
        "mlflow.run_id": record.run_id,
        "user": record.user,
        "host": record.host,
        "command": record.command,
        "ray_job": record.ray_job,
    }
    fields = [
        facet_v2.tags_run.TagsRunFacetFields(key, redacted(value), "SLLM")
        for key, value in shown.items()
        if value
    ]
    run_facets: dict[str, Any] = {
        "tags": facet_v2.tags_run.TagsRunFacet(fields),
        "processing_engine": facet_v2.processing_engine_run.ProcessingEngineRunFacet(
            record.versions.get("ray" if record.ray_job else "sllm", "unknown"),
            "ray" if record.ray_job else "sllm",
        ),
    }
    if parent is not None:
        above = facet_v2.parent_run
        run_facets["parent"] = above.ParentRunFacet(above.Run(parent[0]), above.Job(namespace, parent[1]))
    if error is not None:
        line = f"{type(error).__name__}: {redacted(first_line(error))}"
        run_facets["errorMessage"] = facet_v2.error_message_run.ErrorMessageRunFacet(line, "PYTHON")
    job_facets: dict[str, Any] = {
        "jobType": facet_v2.job_type_job.JobTypeJobFacet("BATCH", "SLLM", "JOB"),
        "documentation": facet_v2.documentation_job.DocumentationJobFacet(description, "text/markdown"),
    }
    git = git_repository()
    if "://" in (url := git.get("mlflow.source.git.repoURL", "")):
        job_facets["sourceCodeLocation"] = facet_v2.source_code_location_job.SourceCodeLocationJobFacet(
            "git", url, url, version=record.versions.get("git"), branch=git.get("mlflow.source.git.branch")
        )
    name = f"{record.job}.{Path(redacted(record.output.path)).name}"
    return event_v2.RunEvent(
        eventTime=datetime.now(UTC).isoformat(),
        run=event_v2.Run(run_id, run_facets),
        job=event_v2.Job(namespace, name, job_facets),
        eventType=event_v2.RunState[state],
        inputs=[event_v2.InputDataset(*_named(one), facets=_facets(one)) for one in _inputs(record.inputs)],
        outputs=[_output(record)],
    )


def _inputs(inputs: Sequence[Artifact]) -> list[Artifact]:
    """The inputs; of a large corpus the folders of its files, without a digest."""
    files = [one for one in inputs if one.kind == "corpus"]
    if len(files) <= MOST_FILES:
        return list(inputs)
    folders = dict.fromkeys(one.path.rpartition("/")[0] or one.path for one in files)
    return [
        *(Artifact("corpus", folder, "") for folder in folders),
        *(one for one in inputs if one.kind != "corpus"),
    ]


def _output(record: JobRecord) -> Any:
    from openlineage.client import event_v2, facet_v2

    artifact = dataclasses.replace(record.output, path=_absolute(record.output.path))
    counts = [value for key, value in record.metrics.items() if key in ("train/documents", "dev/documents")]
    facets: dict[str, Any] = {}
    if record.finished is not None:
        statistics = facet_v2.output_statistics_output_dataset.OutputStatisticsOutputDatasetFacet
        is_shards = artifact.kind == "shards" and counts
        facets["outputStatistics"] = statistics(
            rowCount=int(sum(counts)) if is_shards else None,
            size=sum(record.files.values()),
            fileCount=len(record.files),
        )
    return event_v2.OutputDataset(*_named(artifact), outputFacets=facets, facets=_facets(artifact))


def _absolute(path: str) -> str:
    return path if is_url(path) else str(Path(path).absolute())


def _named(artifact: Artifact) -> tuple[str, str]:
    """Namespace and name of a data set, as the specification names files, objects in buckets and files at URLs."""
    path = redacted(artifact.path)
    if is_url(path):
        parts = urlsplit(path)
        name = parts.path if parts.scheme in ("http", "https") else parts.path.lstrip("/")
        return f"{parts.scheme}://{parts.netloc}", name.rstrip("/") or "/"
    if path.startswith("/"):
        return "file", path.rstrip("/") or "/"
    return _NAMESPACE, f"{artifact.kind}/{path}"


def _facets(artifact: Artifact) -> dict[str, Any]:
    from openlineage.client import facet_v2

    kind = facet_v2.dataset_type_dataset.DatasetTypeDatasetFacet(artifact.kind.upper())
    version = facet_v2.dataset_version_dataset.DatasetVersionDatasetFacet(artifact.digest)
    return {"datasetType": kind, **({"version": version} if artifact.digest else {})}
