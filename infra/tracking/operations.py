"""Operations on an MLflow run. Each may be applied again after a failure that left it half done."""

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from infra.tracking.corpus_files import Corpus
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
from infra.tracking.store import client_of, experiment_id_of, is_away
from pipeline.config import TrackingConfig
from pipeline.errors import ConfigError, SllmError
from pipeline.lineage import Artifact, read_record

if TYPE_CHECKING:
    from mlflow import MlflowClient

KEY_TAG = "sllm.run_key"
"""Tag with our own name of a run, by which a run is found whose creation was not answered."""
_SYSTEM = "system/"
"""Of these metrics no point comes again from a resumed job."""
_PARENT_KEY_TAG = "sllm.parent_key"
"""Tag with the key of the run above, whose id may come to be known late."""
_PARENT_TAG, _NOTE_TAG = "mlflow.parentRunId", "mlflow.note.content"
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
            self._delete_copies(client)
            self._adopt(client)
            if first.get("delete"):
                client.delete_run(self.run_id)

    def _create(self, client: "MlflowClient", operation: Operation) -> None:
        key, experiment = operation["key"], operation["experiment"]
        self.doubt()
        must_exist = operation["must_exist"]
        known = operation["run_id"] if must_exist else self.runs.get(key) or operation["run_id"]
        if known and _reopened(client, known, must_exist):
            self.run_id = self.runs[key] = known
            return
        tracking = self._tracking.model_copy(update={"experiment": experiment})
        experiment_id = experiment_id_of(tracking)
        found = client.search_runs([experiment_id], f"tags.`{KEY_TAG}` = '{key}'", max_results=1)
        if found and _reopened(client, found[0].info.run_id):
            self.run_id = self.runs[key] = found[0].info.run_id
            return
        parent, parent_key = operation.get("parent"), operation.get("parent_key")
        if not parent and parent_key:
            above = client.search_runs([experiment_id], f"tags.`{KEY_TAG}` = '{parent_key}'", max_results=1)
            parent = above[0].info.run_id if above else None
        tags = {KEY_TAG: key, _PARENT_TAG: parent, _PARENT_KEY_TAG: parent_key}
        made = client.create_run(
            experiment_id,
            start_time=operation["ms"],
            tags={name: value for name, value in tags.items() if value},
            run_name=operation["name"],
        )
        self.run_id = self.runs[key] = made.info.run_id
        self._is_ours_alone = True

    def _delete_copies(self, client: "MlflowClient") -> None:
        """Delete runs that a stalled server made when it went on, after this one had been made again."""
        run = client.get_run(self.run_id)
        if key := run.data.tags.get(KEY_TAG):
            for copy in client.search_runs([run.info.experiment_id], f"tags.`{KEY_TAG}` = '{key}'"):
                if copy.info.run_id != self.run_id:
                    client.delete_run(copy.info.run_id)

    def _adopt(self, client: "MlflowClient") -> None:
        """Put runs below this one that began while its id was not known."""
        run = client.get_run(self.run_id)
        if not (key := run.data.tags.get(KEY_TAG)):
            return
        for below in client.search_runs([run.info.experiment_id], f"tags.`{_PARENT_KEY_TAG}` = '{key}'"):
            if _PARENT_TAG not in below.data.tags:
                client.set_tag(below.info.run_id, _PARENT_TAG, self.run_id)

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


def _reopened(client: "MlflowClient", run_id: str, must_exist: bool = False) -> bool:
    """Set a run to RUNNING -> whether the store has it.

    Raises `ConfigError` where it lacks one that `must_exist`.
    """
    from mlflow.exceptions import MlflowException

    try:
        client.update_run(run_id, status="RUNNING")
    except MlflowException as error:
        if is_away(error):
            raise
        if must_exist:
            raise ConfigError(
                f"MLFLOW_RUN_ID={run_id}: the store has no such run; unset the variable"
            ) from error
        return False  # another store, or deleted: the job gets a new run
    return True


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
