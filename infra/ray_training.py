"""Training on a cluster: Ray Train starts the workers, DeepSpeed trains, and checkpoints are written to storage."""

import logging
import tempfile
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import ray
import ray.train
import torch
from ray.train.v2.api.config import CheckpointConfig, FailureConfig, LoggingConfig, RunConfig, ScalingConfig
from ray.train.v2.api.exceptions import TrainingFailedError
from ray.train.v2.api.report_config import CheckpointUploadMode as UploadMode
from ray.train.v2.torch.torch_trainer import TorchTrainer

from infra.deepspeed_engine import DeepSpeedEngine
from infra.local_training import ReportMetrics, log
from infra.ray_cluster import connect
from pipeline.config import Config
from pipeline.errors import SllmError, TrainingError
from pipeline.training.checkpoint import finish, keep_model, newest, writing
from pipeline.training.loop import train
from pipeline.training.task import TrainingJob, build_task, train_config

REPORT_POLL_SECONDS = 0.5


@ray.remote(num_cpus=0)
class ReportQueue:
    """An actor with metrics, warnings and the first error of the workers, from which the driver reads them."""

    def __init__(self) -> None:
        self.metrics: list[dict[str, float]] = []
        self.warnings: list[str] = []
        self.error: str | None = None

    def put(self, metrics: dict[str, float]) -> None:
        """Add the metrics of a step."""
        self.metrics.append(metrics)

    def warn(self, message: str) -> None:
        """Add a warning."""
        self.warnings.append(message)

    def fail(self, message: str) -> None:
        """Set the error that ends training."""
        self.error = message

    def take(self) -> tuple[list[dict[str, float]], list[str]]:
        """All metrics and warnings since the last call."""
        taken = self.metrics, self.warnings
        self.metrics, self.warnings = [], []
        return taken

    def failure(self) -> str | None:
        """The error of `fail`."""
        return self.error


class RayRuntime:
    """The runtime of a worker: it saves checkpoints by `ray.train.report`, which is a barrier and merges the files of
    the ranks."""

    def __init__(self, reports: Any, checkpoints: Path) -> None:
        self.reports, self.checkpoints = reports, checkpoints
        self._written: Future[None] | None = None

    def report(self, metrics: dict[str, float]) -> None:
        """Send the metrics of a step to the driver, without waiting."""
        self.reports.put.remote(metrics)

    def warn(self, message: str) -> None:
        """Send a warning to the driver, without waiting."""
        self.reports.warn.remote(message)

    def save(self, step: int, write: Callable[[Path], None], background: bool) -> None:
        """Every rank writes to a folder of its own; they are merged in storage, which shows a checkpoint whole or not
        at all.

        Ray registers a checkpoint when the files of all ranks are stored; an error in the background ends the run.
        """
        self.wait()
        folder = tempfile.mkdtemp(prefix=f"sllm-step-{step}-")
        written: Future[None] = Future()

        def upload(checkpoint: ray.train.Checkpoint, name: str) -> ray.train.Checkpoint:
            try:
                with writing(Path(folder)):
                    write(Path(folder))
                kept = ray.train.get_context().get_storage().persist_current_checkpoint(checkpoint, name)
            except BaseException as error:
                written.set_exception(error)
                raise
            written.set_result(None)
            return kept

        self._written = written
        try:
            ray.train.report(
                {"step": step},
                checkpoint=ray.train.Checkpoint.from_directory(folder),
                checkpoint_upload_mode=UploadMode.ASYNC if background else UploadMode.SYNC,
                checkpoint_upload_fn=upload,
                delete_local_checkpoint_after_upload=True,
            )
        except Exception:
            if written.done():
                finish(written)  # our error, where the upload failed
            raise

    def wait(self) -> None:
        """Wait until the last checkpoint is in storage."""
        written, self._written = self._written, None
        finish(written)

    @contextmanager
    def latest(self) -> Iterator[Path | None]:
        """The newest whole checkpoint of any launcher; rank 0 chooses it for all."""
        found: list[Path | TrainingError | None] = [None]
        if torch.distributed.get_rank() == 0:
            try:
                found = [newest(self.checkpoints)]
            except TrainingError as error:
                found = [error]
        torch.distributed.broadcast_object_list(found)
        if isinstance(found[0], TrainingError):
            raise found[0]
        yield found[0]


def train_in_worker(arguments: dict[str, Any]) -> None:
    """The function of each training worker; the same in all ranks."""
    _silence_libraries()
    job: TrainingJob = arguments["job"]
    config = Config.model_validate(arguments["config"])
    runtime = RayRuntime(arguments["reports"], Path(arguments["checkpoints"]))
    try:
        task = build_task(job, config)
        options = train_config(job, config)
        engine = DeepSpeedEngine(task.module, options, config.deepspeed, config.precision)
        train(task, options, engine, runtime)
    except SllmError as error:
        if ray.train.get_context().get_world_rank() == 0:
            ray.get(runtime.reports.fail.remote(str(error)))
        raise


def train_on_cluster(
    job: TrainingJob, config: Config, checkpoints: Path, output: Path, report: ReportMetrics
) -> None:
    """Train to the end, with restarts after failures, and write the model to the folder `output`."""
    connect(config.ray)
    reports: Any = ReportQueue.remote()  # type: ignore[attr-defined]
    options = train_config(job, config)
    trainer = TorchTrainer(
        train_in_worker,
        train_loop_config={
            "job": job,
            "config": with_absolute_paths(config).model_dump(),
            "reports": reports,
            "checkpoints": str(checkpoints.absolute()),
        },
        scaling_config=ScalingConfig(
            num_workers=config.ray.num_workers,
            use_gpu=config.ray.use_gpu,
            resources_per_worker={"CPU": config.ray.cpus_per_worker},
        ),
        run_config=RunConfig(
            name=checkpoints.name,
            storage_path=str(checkpoints.parent.absolute()),
            failure_config=FailureConfig(max_failures=config.ray.max_failures),
            checkpoint_config=CheckpointConfig(num_to_keep=options.keep_checkpoints),
            logging_config=LoggingConfig(log_level="ERROR"),
        ),
    )
    with _forwarded(reports, report):
        try:
            trainer.fit()
        except TrainingFailedError as error:
            known = ray.get(reports.failure.remote())
            raise TrainingError(known or f"training failed on the cluster: {error}") from error
    finished = newest(checkpoints)
    if finished is None:
        raise TrainingError("training ended without a checkpoint; see the logs of the Ray workers")
    keep_model(finished, output)


def with_absolute_paths(config: Config) -> Config:
    """The configuration with absolute paths of the folders that a job reads, since workers have other working folders.

    Hub names and URLs are unchanged.
    """

    def absolute(path: str | None) -> str | None:
        return str(Path(path).absolute()) if path is not None and Path(path).exists() else path

    models = {name: absolute(path) for name, path in config.models}
    return config.model_copy(
        update={
            "shards": tuple(str(absolute(folder)) for folder in config.shard_folders) or None,
            "models": config.models.model_copy(update=models),
            "trunk": config.trunk.model_copy(update={"path": absolute(config.trunk.path)}),
        }
    )


@contextmanager
def _forwarded(reports: Any, report: ReportMetrics) -> Iterator[None]:
    done = threading.Event()

    def drain() -> None:
        metrics, warnings = ray.get(reports.take.remote())
        for of_step in metrics:
            report(of_step)
        for message in warnings:
            log.warning(message)

    def poll() -> None:
        while not done.wait(REPORT_POLL_SECONDS):
            drain()

    thread = threading.Thread(target=poll, name="training-progress", daemon=True)
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join()
        drain()


def _silence_libraries() -> None:
    """Silence the libraries in workers, whose lines would break the driver's progress bar."""
    from transformers.utils import logging as transformers_logging

    transformers_logging.disable_progress_bar()
    log.setLevel(logging.ERROR)  # the driver has made the same checks, and warned
    for name in ("DeepSpeed", "deepspeed"):
        logging.getLogger(name).setLevel(logging.ERROR)
