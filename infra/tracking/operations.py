"""Operations on an MLflow run. Each may be applied again after a failure that left it half done."""

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from infra.tracking.corpus_files import Corpus
from infra.tracking.creation import adopt, delete_copies, run_of
from infra.tracking.datasets import DIGEST_CHARACTERS, OUTPUT_CONTEXT, corpus_dataset, dataset, name_of
from infra.tracking.journal import Operation
from infra.tracking.logged_models import (
    DIGEST_TAG,
    KIND_TAG,
    MODEL_TAG,
    Clock,
    create_model,
    keep_reference,
    model_metrics,
    upload_model,
)
from infra.tracking.logged_models import PATH_TAG as OUTPUT_PATH_TAG
from infra.tracking.run_files import RunFiles
from infra.tracking.store import client_of, is_away
from pipeline.config import TrackingConfig
from pipeline.errors import SllmError
from pipeline.lineage import Artifact, read_record

if TYPE_CHECKING:
    from mlflow import MlflowClient

_SYSTEM = "system/"
"""Of these metrics no point comes again from a resumed job."""
_NOTE_TAG = "mlflow.note.content"
_PARAMS_A_BATCH = _INPUTS_A_BATCH = 100
_METRICS_A_BATCH = 1000
"""MLflow's limit."""


class _Calls:
    """A client that tells of each call and of each answer."""

    def __init__(self, client: "MlflowClient", before: Callable[[], None], after: Callable[[], None]) -> None:
        self._client, self._before, self._after = client, before, after

    def __getattr__(self, name: str) -> Any:
        method = getattr(self._client, name)

        def call(*arguments: Any, **options: Any) -> Any:
            self._before()
            answer = method(*arguments, **options)
            self._after()
            return answer

        return call


class RunWriter:
    """Applies operations to the store, one run after the other."""

    def __init__(
        self,
        tracking: TrackingConfig,
        uri: str,
        before: Callable[[], None],
        after: Callable[[], None],
        output: str = "",
    ) -> None:
        """`output`: path or URL of what the job writes. `before` is called before each call to the store, and may
        raise; `after` when it has answered."""
        self._tracking, self._uri, self._before, self._after = tracking, uri, before, after
        self._output_path = output
        self.run_id = ""
        """The run of the last `create`."""
        self.runs: dict[str, str] = {}
        """Known runs by the keys of their `create`."""
        self._files = RunFiles(uri, before, after)
        self.clock = Clock()
        self._is_ours_alone = False
        self._stored: dict[str, set[int]] = {}

    def doubt(self) -> None:
        """Forget what is stored, after a call whose effect is not known: the store is asked again."""
        self._is_ours_alone = False
        self._stored.clear()

    def apply(self, operations: Sequence[Operation]) -> None:
        """One operation, or several of metrics. Raises the store's errors."""
        client: Any = _Calls(client_of(self._uri), self._before, self._after)
        kind, first = operations[0]["do"], operations[0]
        if kind == "create":
            self.run_id = ""
            self._create(client, first)
        elif not self.run_id:
            return  # its run was refused
        elif kind == "metrics":
            self._metrics(client, operations)
        elif kind == "start":
            self._start(client, first)
        elif kind == "tags":
            self._tags(client, first["tags"])
        elif kind == "file":
            self._files.send(client, self.run_id, first["name"], first["text"])
        elif kind == "output":
            self._output(client, first)
        elif kind == "upload":
            self._upload(client, first)
        elif kind == "model_metrics":
            self._model_metrics(client, first)
        elif kind == "end":
            if first.get("error"):
                client.set_tag(self.run_id, "sllm.error", first["error"])
            client.set_terminated(self.run_id, first["status"], end_time=first["ms"])
            delete_copies(client, self.run_id)
            adopt(client, self.run_id)
            if first.get("delete"):
                client.delete_run(self.run_id)

    def _create(self, client: "MlflowClient", operation: Operation) -> None:
        key = operation["key"]
        self.doubt()
        self.run_id, self._is_ours_alone = run_of(client, self._tracking, operation, self.runs.get(key))
        self.runs[key] = self.run_id

    def _metrics(self, client: "MlflowClient", operations: Sequence[Operation]) -> None:
        """Points whose step the store has are left out: a job that goes on reports some of them again."""
        from mlflow.entities import Metric

        new: list[Any] = []
        for operation in operations:
            step = operation["step"]
            for key, value in operation["values"].items():
                if step is not None and not key.startswith(_SYSTEM):
                    stored = self._steps(client, key)
                    if step in stored:
                        continue
                    stored.add(step)
                new.append(Metric(key, value, operation["ms"], step or 0))
        for start in range(0, len(new), _METRICS_A_BATCH):
            client.log_batch(self.run_id, metrics=new[start : start + _METRICS_A_BATCH], synchronous=True)

    def _steps(self, client: "MlflowClient", key: str) -> set[int]:
        if key not in self._stored:
            history = [] if self._is_ours_alone else client.get_metric_history(self.run_id, key)
            self._stored[key] = {metric.step for metric in history}
        return self._stored[key]

    def _start(self, client: "MlflowClient", operation: Operation) -> None:
        from mlflow.entities import LoggedModelInput, Param

        params, inputs = operation["params"], [_known(Artifact(**given)) for given in operation["inputs"]]
        stored = client.get_run(self.run_id).data
        known, tags = stored.params, operation["tags"]
        # Tags are stored last: with this job's identity, all parameters of its beginning are there.
        resumed = "sllm.identity" in tags and stored.tags.get("sllm.identity") == tags["sllm.identity"]
        corpus = [corpus_dataset(Corpus(**given)) for given in operation.get("corpora", ())]
        changed = {
            f"resumed.{key}": value
            for key, value in params.items()
            if (known[key] != value if key in known else resumed)
        }
        new = [Param(key, value) for key, value in params.items() if not resumed and key not in known]
        for start in range(0, len(new), _PARAMS_A_BATCH):
            client.log_batch(self.run_id, params=new[start : start + _PARAMS_A_BATCH], synchronous=True)
        if (text := operation.get("description")) and _NOTE_TAG not in stored.tags:
            changed[_NOTE_TAG] = text
        self._tags(client, {**tags, **changed})
        if corpus:
            client.log_inputs(self.run_id, datasets=corpus)
        for start in range(0, len(inputs), _INPUTS_A_BATCH):
            some = inputs[start : start + _INPUTS_A_BATCH]
            models = [_model_id(client, artifact) for artifact in some]
            client.log_inputs(
                self.run_id,
                datasets=[dataset(artifact, context=artifact.kind) for artifact in some],
                models=[LoggedModelInput(model_id) for model_id in models if model_id],
            )

    def _tags(self, client: "MlflowClient", tags: Mapping[str, str]) -> None:
        from mlflow.entities import RunTag

        shown = [RunTag(key, value) for key, value in tags.items()]
        for start in range(0, len(shown), _PARAMS_A_BATCH):
            client.log_batch(self.run_id, tags=shown[start : start + _PARAMS_A_BATCH], synchronous=True)

    def _output(self, client: "MlflowClient", operation: Operation) -> None:
        from mlflow.entities import LoggedModelOutput, Metric, RunTag

        output = Artifact(**operation["artifact"])
        run = client.get_run(self.run_id)
        tags = {KIND_TAG: output.kind, OUTPUT_PATH_TAG: output.path, DIGEST_TAG: output.digest}
        if tags.items() <= run.data.tags.items():
            return  # these tags are stored last
        if output.kind == "model":
            model = create_model(client, run, output, operation.get("is_uploaded", False))
            if model.model_id not in {
                one.model_id for one in (run.outputs.model_outputs if run.outputs else ())
            }:
                client.log_outputs(self.run_id, [LoggedModelOutput(model.model_id, step=0)])
            tags[MODEL_TAG] = model.model_id
        else:
            client.log_inputs(self.run_id, datasets=[dataset(output, context=OUTPUT_CONTEXT)])
        curves = run.data.metrics  # their last values are stored already, with steps
        values = {key: value for key, value in operation["metrics"].items() if key not in curves}
        client.log_batch(
            self.run_id,
            metrics=[Metric(key, value, operation["ms"], 0) for key, value in values.items()],
            tags=[RunTag(key, value) for key, value in tags.items()],
            synchronous=True,
        )

    def _upload(self, client: "MlflowClient", operation: Operation) -> None:
        if model_id := client.get_run(self.run_id).data.tags.get(MODEL_TAG):
            upload_model(
                client,
                self._uri,
                model_id,
                self._output_path,
                operation["digest"],
                self.run_id,
                self.clock,
            )

    def _model_metrics(self, client: "MlflowClient", operation: Operation) -> None:
        """Metrics of a model that this run has read, on one of its datasets."""
        model, data = _known(Artifact(**operation["model"])), Artifact(**operation["data"])
        if (model_id := _model_id(client, model)) is None:
            return
        on = (name_of(data), data.digest[:DIGEST_CHARACTERS])
        metrics = model_metrics(model_id, operation["values"], operation["ms"], on)
        for start in range(0, len(metrics), _METRICS_A_BATCH):
            client.log_batch(self.run_id, metrics=metrics[start : start + _METRICS_A_BATCH], synchronous=True)

    def give_up(self, operation: Operation) -> None:
        """An operation that the store does not take: a model without its files becomes a reference."""
        client = client_of(self._uri)
        if operation["do"] == "upload" and (model_id := client.get_run(self.run_id).data.tags.get(MODEL_TAG)):
            keep_reference(client, model_id)


def _known(artifact: Artifact) -> Artifact:
    """The artifact with the run that made it, where that run came to be known after this job had read it."""
    if artifact.run_id or "://" in artifact.path:
        return artifact
    try:
        record = read_record(artifact.path)
    except SllmError:
        return artifact
    known = record is not None and record.output.digest == artifact.digest and record.run_id
    return Artifact(artifact.kind, artifact.path, artifact.digest, known or None)


def _model_id(client: "MlflowClient", artifact: Artifact) -> str | None:
    """The LoggedModel that a model artifact was logged as, where this store holds its run."""
    from mlflow.exceptions import MlflowException

    if artifact.kind != "model" or not artifact.run_id:
        return None
    try:
        return client.get_run(artifact.run_id).data.tags.get(MODEL_TAG)
    except MlflowException as error:
        if is_away(error):
            raise
        return None
