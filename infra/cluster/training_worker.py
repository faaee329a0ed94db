"""A training worker on a cluster: DeepSpeed trains, and checkpoints are written to Ray's storage."""

import logging
import tempfile
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import ray
import ray.train
import torch
from ray.train.v2.api.report_config import CheckpointUploadMode as UploadMode

from infra.deepspeed_engine import DeepSpeedEngine
from infra.local_training import log
from pipeline.config import Config
from pipeline.errors import SllmError, TrainingError
from pipeline.training.checkpoint import finish, newest, writing
from pipeline.training.loop import train
from pipeline.training.task import TrainingJob, build_task, train_config


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


def _silence_libraries() -> None:
    """Silence the libraries in workers, whose lines would break the driver's progress bar."""
    from transformers.utils import logging as transformers_logging

    transformers_logging.disable_progress_bar()
    log.setLevel(logging.ERROR)  # the driver has made the same checks, and warned
    for name in ("DeepSpeed", "deepspeed"):
        logging.getLogger(name).setLevel(logging.ERROR)
