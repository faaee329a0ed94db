"""Training on a cluster: Ray Train starts the workers, DeepSpeed trains, and checkpoints are written to storage."""

import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import ray
import ray.train
from ray.train.v2.api.config import FailureConfig, LoggingConfig, RunConfig, ScalingConfig
from ray.train.v2.api.exceptions import TrainingFailedError
from ray.train.v2.torch.torch_trainer import TorchTrainer

from infra.checkpoints.folder import CheckpointFolder
from infra.cluster.connection import connect
from infra.cluster.training_worker import train_in_worker
from infra.cluster.worker_paths import with_absolute_paths
from infra.local_training import ReportMetrics, log
from pipeline.config import Config
from pipeline.errors import TrainingError
from pipeline.training.task import TrainingJob

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


def train_on_cluster(
    job: TrainingJob, config: Config, checkpoints: str, output: str, report: ReportMetrics
) -> None:
    """Train to the end, with restarts after failures, and write the model to `output`.

    `checkpoints` and `output` are paths or fsspec URLs that all nodes reach.
    """
    connect(config.ray)
    reports: Any = ReportQueue.remote()  # type: ignore[attr-defined]
    folder = CheckpointFolder(checkpoints)
    # Ray's own storage holds markers of Ray Train alone: see infra/checkpoints/__init__.py.
    with tempfile.TemporaryDirectory(prefix="sllm-ray-train-") as ray_storage:
        trainer = TorchTrainer(
            train_in_worker,
            train_loop_config={
                "job": job,
                "config": with_absolute_paths(config).model_dump(),
                "reports": reports,
                "checkpoints": folder.url,
            },
            scaling_config=ScalingConfig(
                num_workers=config.ray.num_workers,
                use_gpu=config.ray.use_gpu,
                resources_per_worker={"CPU": config.ray.cpus_per_worker},
            ),
            run_config=RunConfig(
                name=job,
                storage_path=ray_storage,
                failure_config=FailureConfig(max_failures=config.ray.max_failures),
                logging_config=LoggingConfig(log_level="ERROR"),
            ),
        )
        with _forwarded(reports, report):
            try:
                trainer.fit()
            except TrainingFailedError as error:
                known = ray.get(reports.failure.remote())
                raise TrainingError(known or f"training failed on the cluster: {error}") from error
    folder.keep_model(output)


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
