"""MLflow: one run per job, with its inputs, configuration, metrics and output.

No call here waits for the store, except where it says so: a thread sends what a job has to tell, and what could not be
sent stays in a file beside the output until the same command runs again.
"""

import contextvars
import dataclasses
import os
import signal
import threading
import time
import uuid
from collections.abc import Mapping, Sequence
from typing import Any, Protocol

from infra.tracking.corpus_files import corpus_of, input_tags
from infra.tracking.journal import Journal, Operation
from infra.tracking.params import flatten
from infra.tracking.sending import Sender
from infra.tracking.store import resolve_experiment, sqlite_path
from pipeline.config import TrackingConfig
from pipeline.errors import first_line
from pipeline.lineage import Artifact, JobRecord
from pipeline.redaction import redacted, redacted_tree

RUN_ID_VARIABLE = "MLFLOW_RUN_ID"
START_SECONDS = 15.0
"""Longest wait for the run's id at the start of a job."""


class Above(Protocol):
    """What has a run above those of jobs: a command with several jobs."""

    def begin(self, trouble: str | None) -> "ActiveRun":
        """Its run, begun at the first call. `trouble`: why the store is known to be away."""


above = contextvars.ContextVar[Above | None]("above", default=None)
"""The command with several jobs that runs now. Under MLFLOW_RUN_ID its jobs are below that run, and it has none."""


class ActiveRun:
    """The MLflow run of the running job."""

    def __init__(
        self, sender: Sender, key: str, output: str, upload_models: bool = False, is_new: bool = False
    ) -> None:
        """`is_new`: whether no earlier job had this run."""
        self.output = output
        self.after_step = 0
        """Points up to this step are left out: an earlier run has them."""
        self.name = ""
        self.parent: ActiveRun | None = None
        """The run of the command whose job this is, if it has several."""
        self._sender, self._key, self._upload_models = sender, key, upload_models
        self._is_new, self._is_unused = is_new, False

    @property
    def tracking_uri(self) -> str:
        """Address of the store."""
        return self._sender.uri

    @property
    def above(self) -> tuple[str, str] | None:
        """UUID and name of the run above, where there is one."""
        if self.parent is None:
            return None
        return str(uuid.UUID(hex=self.parent.run_id or self.parent.key)), self.parent.name

    @property
    def key(self) -> str:
        """Our own name of the run."""
        return self._key

    @property
    def run_id(self) -> str:
        """MLflow's id of the run; empty while MLflow has not answered."""
        return self._sender.run_of(self._key)

    @property
    def failure(self) -> str | None:
        """Why the job may not go on (`tracking.required`)."""
        return self._sender.failure

    @property
    def kept_in(self) -> str:
        """The file with what MLflow has not got."""
        return self._sender.journal.place

    def log_metrics(
        self, metrics: Mapping[str, float], step: int | None = None, seconds: float | None = None
    ) -> None:
        """Metrics at an optimizer step; at `seconds` (Unix time), or now. A step that the run has is left out."""
        if step is not None and step <= self.after_step:
            return
        values = {key: float(value) for key, value in metrics.items()}
        self._sender.add({"do": "metrics", "step": step, "ms": _milliseconds(seconds), "values": values})

    def log_system_metrics(self, metrics: Mapping[str, float], step: int) -> None:
        """Metrics of machines, now; `step` is in seconds."""
        values = {key: float(value) for key, value in metrics.items()}
        self._sender.add({"do": "metrics", "step": step, "ms": _milliseconds(), "values": values})

    def log_start(
        self,
        config: Mapping[str, Any],
        inputs: Sequence[Artifact],
        tags: Mapping[str, str],
        description: str = "",
    ) -> None:
        """The configuration (flattened, secrets masked), the inputs with their digests, tags, and a description in
        Markdown, which does not replace one that the run has.

        Corpus files are one dataset, named after the patterns in `config`, and tags (`infra.tracking.corpus_files`).
        Parameters of a run cannot change: where a resumed run differs, the new value is in a tag.
        """
        data = config.get("data") or {}
        corpus = corpus_of(inputs, [*(data.get("inputs") or ()), *(data.get("dev_inputs") or ())])
        self._sender.add(
            {
                "do": "start",
                "params": flatten(redacted_tree(config)),
                "inputs": [dataclasses.asdict(artifact) for artifact in inputs if artifact.kind != "corpus"],
                "corpora": [] if corpus is None else [dataclasses.asdict(corpus)],
                "tags": {**tags, **input_tags(inputs)},
                "description": description,
            }
        )

    def log_tags(self, tags: Mapping[str, str]) -> None:
        """Tags that were not known at the start."""
        self._sender.add({"do": "tags", "tags": dict(tags)})

    def log_text(self, name: str, text: str) -> None:
        """A file of the run, shown in MLflow beside its figures: its relative name and content."""
        self._sender.add({"do": "file", "name": name, "text": text})

    def log_output(self, output: Artifact, metrics: Mapping[str, float]) -> None:
        """The final metrics and the output: as tags, and as a dataset or a LoggedModel for the web interface.

        With `tracking.upload_models` the files of a model follow with `upload_model`.
        """
        self._sender.add(
            {
                "do": "output",
                "artifact": dataclasses.asdict(output),
                "metrics": {key: float(value) for key, value in metrics.items()},
                "is_uploaded": self._upload_models,
                "ms": _milliseconds(),
            }
        )

    def upload_model(self, record: JobRecord) -> bool:
        """The files of the model that the finished job `record` wrote, and its `job.json`, which is there already ->
        whether they are uploaded (`tracking.upload_models`)."""
        is_uploaded = self._upload_models and record.output.kind == "model"
        if is_uploaded:
            self._sender.add({"do": "upload", "digest": record.output.digest})
        return is_uploaded

    def log_model_metrics(self, model: Artifact, data: Artifact, metrics: Mapping[str, float]) -> None:
        """Metrics of a model that this job has read, on the shards `data`; they are shown with the model too."""
        self._sender.add(
            {
                "do": "model_metrics",
                "model": dataclasses.asdict(model),
                "data": dataclasses.asdict(data),
                "values": {key: float(value) for key, value in metrics.items()},
                "ms": _milliseconds(),
            }
        )

    def end(self, status: str, error: BaseException | None = None) -> None:
        """The run is FINISHED, FAILED or KILLED, with the first line of the error."""
        line = f"{type(error).__name__}: {redacted(first_line(error))}"[:5000] if error is not None else None
        end = {"do": "end", "status": status, "error": line, "ms": _milliseconds()}
        self._sender.add({**end, "delete": True} if self._is_unused else end)

    def delete_at_end(self) -> None:
        """Nothing was done in this run: delete it at its end, unless it was there before this job."""
        self._is_unused = self._is_new

    def close(self) -> bool:
        """Send what waits -> whether MLflow has all of it; if not, the rest is in the file.

        It waits for the store as `Sender.close` says.
        """
        return self._sender.close()


def start_run(
    tracking: TrackingConfig,
    name: str,
    output: str,
    resume: JobRecord | None = None,
    identity: str = "",
    trouble: str | None = None,
) -> ActiveRun:
    """A new run in the experiment, the run of the interrupted job `resume`, or that of MLFLOW_RUN_ID.

    It waits up to `START_SECONDS` for the run's id (for an SQLite file as long as it takes), and not at all if the
    store is known to be away (`trouble`). Raises `ConfigError` where the store refuses.
    """
    journal = Journal(output)
    command = above.get()
    given = os.environ.get(RUN_ID_VARIABLE) or None
    direct = given if command is None else None
    parent = command.begin(trouble) if command is not None and given is None else None
    left = journal.last_run()
    goes_on = resume is not None and left and left[0]["identity"] == resume.identity
    create = {
        "do": "create",
        "key": left[0]["key"] if goes_on else uuid.uuid4().hex,
        "identity": identity,
        "name": name,
        "experiment": resolve_experiment(tracking.experiment),
        "ms": _milliseconds(),
        "run_id": direct or (resume.run_id if resume is not None else None),
        "must_exist": direct is not None,
        **below(parent, given if direct is None else None),
    }
    run = opened(tracking, journal, create, trouble)
    run.parent = parent
    return run


def below(parent: ActiveRun | None, given: str | None) -> dict[str, str | None]:
    """What an operation `create` says of the run above: its id, or only its key while the id is not known."""
    return {
        "parent": given or (parent.run_id or None if parent is not None else None),
        "parent_key": parent.key if parent is not None else None,
    }


def opened(
    tracking: TrackingConfig,
    journal: Journal,
    create: Operation,
    trouble: str | None,
    keeps_run: bool = False,
) -> ActiveRun:
    """The run of the operation `create`; it waits as `start_run` does. `keeps_run`: see `Sender`."""
    journal.append(create)
    sender = Sender(tracking, journal, trouble, _interrupt(threading.current_thread()), keeps_run)
    try:
        sender.wait_for_run(create["key"], None if sqlite_path(sender.uri) else START_SECONDS)
    except BaseException:
        sender.close()
        raise
    is_new = create["run_id"] is None
    return ActiveRun(sender, create["key"], journal.output, tracking.upload_models, is_new)


def send_unsent(tracking: TrackingConfig, output: str, finished_seconds: float) -> tuple[str, bool]:
    """Send what the finished job that wrote to `output` could not -> its run, empty if not known, and whether all is
    sent.

    It waits for the store as `ActiveRun.close` does.
    """
    journal = Journal(output)
    left = journal.last_run()
    if not left:
        journal.close(all_sent=True)
        return "", True
    if left[-1]["do"] != "end":
        journal.append({"do": "end", "status": "FINISHED", "ms": _milliseconds(finished_seconds)})
    sender = Sender(tracking, journal, None)
    all_sent = sender.close()
    return sender.run_of(left[0]["key"]), all_sent


def _interrupt(thread: threading.Thread) -> Any:
    """A function that ends the job in `thread` as Ctrl-C does; only the main thread can be ended."""

    def interrupt() -> None:
        if thread is threading.main_thread():
            os.kill(os.getpid(), signal.SIGINT)

    return interrupt


def _milliseconds(seconds: float | None = None) -> int:
    return int((time.time() if seconds is None else seconds) * 1000)
