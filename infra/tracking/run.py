"""MLflow: one run per job, with its inputs, configuration, metrics and output.

`mlflow` itself is imported where it is needed, never at the top: it takes seconds.
"""

import json
import re
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from infra.tracking.metrics import MetricsLogger
from infra.tracking.params import flatten
from infra.tracking.store import client_of, experiment_id_of, resolve_uri, usable_store
from pipeline.config import TrackingConfig
from pipeline.errors import first_line
from pipeline.lineage import Artifact
from pipeline.redaction import redacted, redacted_tree

if TYPE_CHECKING:
    from mlflow import MlflowClient

DIGEST_CHARACTERS = 36
"""MLflow rejects a longer digest of a dataset; the full one is in the profile and in our tags."""
OUTPUT_CONTEXT = "output"
"""Context of a dataset that a run wrote: MLflow has outputs only for models, so shards are logged as inputs."""

_PARAMS_A_BATCH = 100
_INPUTS_A_BATCH = 100


def attach(tracking_uri: str, run_id: str) -> MetricsLogger:
    """Metrics of a run that another process started, for rank 0 in a training worker; close it at the end."""
    return MetricsLogger(lambda: client_of(tracking_uri), run_id)


class ActiveRun:
    """The MLflow run of the running job. It is pickled as (tracking_uri, run_id, output)."""

    def __init__(self, tracking_uri: str, run_id: str, output: str) -> None:
        self.tracking_uri = tracking_uri
        self.run_id = run_id
        self.output = output
        self._metrics: MetricsLogger | None = None

    def __reduce__(self) -> tuple[type["ActiveRun"], tuple[str, str, str]]:
        return ActiveRun, (self.tracking_uri, self.run_id, self.output)

    def log_metrics(self, metrics: Mapping[str, float], step: int | None = None) -> None:
        """Queue metrics; they are sent in batches and are all stored when the job ends."""
        if self._metrics is None:
            self._metrics = attach(self.tracking_uri, self.run_id)
        self._metrics.log_metrics(metrics, step)

    def close(self) -> None:
        """Send the queued metrics."""
        if self._metrics is not None:
            self._metrics.close()
            self._metrics = None

    def log_start(
        self, config: Mapping[str, Any], inputs: Sequence[Artifact], tags: Mapping[str, str]
    ) -> None:
        """Store the configuration (flattened, secrets masked), the inputs with their digests, and tags.

        Parameters of a run cannot change: where a resumed run differs, the new value is in a tag.

        Raises `ConfigError` where the store cannot be used.
        """
        from mlflow.entities import LoggedModelInput, Param, RunTag

        with usable_store(self.tracking_uri):
            client = client_of(self.tracking_uri)
            run = client.get_run(self.run_id)
            params = {**flatten(redacted_tree(config))}
            known = run.data.params
            changed = {
                f"resumed.{key}": value
                for key, value in params.items()
                if key in known and known[key] != value
            }
            new = [Param(key, value) for key, value in params.items() if key not in known]
            for start in range(0, len(new), _PARAMS_A_BATCH):
                client.log_batch(self.run_id, params=new[start : start + _PARAMS_A_BATCH], synchronous=True)
            client.log_batch(
                self.run_id,
                tags=[RunTag(key, value) for key, value in {**tags, **changed}.items()],
                synchronous=True,
            )
            for start in range(0, len(inputs), _INPUTS_A_BATCH):
                batch = inputs[start : start + _INPUTS_A_BATCH]
                models = [self._model_id(client, artifact) for artifact in batch]
                client.log_inputs(
                    self.run_id,
                    datasets=[_dataset(artifact, context=artifact.kind) for artifact in batch],
                    models=[LoggedModelInput(model_id) for model_id in models if model_id],
                )

    def log_output(self, output: Artifact, metrics: Mapping[str, float]) -> None:
        """Store the final metrics and the output: as tags, and as a dataset or a LoggedModel for the web interface."""
        from mlflow.entities import LoggedModelOutput, Metric, RunTag

        client = client_of(self.tracking_uri)
        tags = {
            "sllm.output.kind": output.kind,
            "sllm.output.path": output.path,
            "sllm.output.digest": output.digest,
        }
        if output.kind == "model":
            model = client.create_logged_model(
                client.get_run(self.run_id).info.experiment_id,
                name=re.sub(r"[^\w-]+", "-", Path(output.path).name) or "model",
                source_run_id=self.run_id,
                tags={**tags, "mlflow.model.isExternal": "true"},
            )
            client.finalize_logged_model(model.model_id, "READY")
            client.log_outputs(self.run_id, [LoggedModelOutput(model.model_id, step=0)])
            tags["sllm.output.model_id"] = model.model_id
        else:
            client.log_inputs(self.run_id, datasets=[_dataset(output, context=OUTPUT_CONTEXT)])
        now = int(time.time() * 1000)
        curves = client.get_run(self.run_id).data.metrics  # their last values are stored already, with steps
        client.log_batch(
            self.run_id,
            metrics=[
                Metric(key, float(value), now, 0) for key, value in metrics.items() if key not in curves
            ],
            tags=[RunTag(key, value) for key, value in tags.items()],
            synchronous=True,
        )

    def end(self, status: str, error: BaseException | None = None) -> None:
        """End the run as FINISHED, FAILED or KILLED, with the first line of the error."""
        client = client_of(self.tracking_uri)
        if error is not None:
            client.set_tag(
                self.run_id, "sllm.error", f"{type(error).__name__}: {redacted(first_line(error))}"[:5000]
            )
        client.set_terminated(self.run_id, status)

    @staticmethod
    def _model_id(client: "MlflowClient", artifact: Artifact) -> str | None:
        """The LoggedModel that a model artifact was logged as, where this store holds its run."""
        from mlflow.exceptions import MlflowException

        if artifact.kind != "model" or artifact.run_id is None:
            return None
        try:
            return client.get_run(artifact.run_id).data.tags.get("sllm.output.model_id")
        except MlflowException:
            return None


def start_run(tracking: TrackingConfig, name: str, output: str, resume: str | None = None) -> ActiveRun:
    """A new run in the experiment, or the run `resume`, reopened.

    Raises `ConfigError` where the store cannot be used.
    """
    uri = resolve_uri(tracking.uri)
    experiment_id = experiment_id_of(tracking)
    with usable_store(uri):
        client = client_of(uri)
        if resume is not None and (run_id := _resumed(client, resume)):
            return ActiveRun(uri, run_id, output)
        return ActiveRun(uri, client.create_run(experiment_id, run_name=name).info.run_id, output)


def _resumed(client: "MlflowClient", run_id: str) -> str | None:
    from mlflow.exceptions import MlflowException

    try:
        client.update_run(run_id, status="RUNNING")
    except MlflowException:  # another store, or deleted: the job gets a new run
        return None
    return run_id


def _dataset(artifact: Artifact, context: str) -> Any:
    from mlflow.entities import Dataset, DatasetInput, InputTag

    scheme = urlsplit(artifact.path).scheme
    return DatasetInput(
        Dataset(
            name=_name_of(artifact),
            digest=artifact.digest[:DIGEST_CHARACTERS],
            source_type=scheme or "local",
            source=json.dumps({"uri": redacted(artifact.path)}),
            profile=json.dumps({"sha256": artifact.digest, "kind": artifact.kind, "run_id": artifact.run_id}),
        ),
        [InputTag("mlflow.data.context", context)],
    )


def _name_of(artifact: Artifact) -> str:
    """The last part of its path, without the query of a URL."""
    path = redacted(artifact.path)
    path = path.partition("?")[0] if "://" in path else path
    return path.rstrip("/").rsplit("/", 1)[-1][:500] or artifact.kind
