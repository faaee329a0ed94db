"""A training worker on a cluster: DeepSpeed trains, and all workers write checkpoints together."""

import logging
from datetime import timedelta
from typing import Any

import ray
import ray.train
import torch

from infra.checkpoints.folder import CheckpointFolder
from infra.deepspeed_engine import DeepSpeedEngine
from infra.local_training import LocalRuntime, log
from pipeline.config import Config
from pipeline.errors import SllmError
from pipeline.training.loop import train
from pipeline.training.task import TrainingJob, build_task, train_config

SLOWEST_CHECKPOINT = timedelta(hours=6)
"""How long a rank waits for the files of another one; a rank that ends is noticed at once."""


class WorkerRanks:
    """The workers, with a process group of their own on the CPU: checkpoints are written while training goes on."""

    def __init__(self) -> None:
        context = ray.train.get_context()
        self.rank, self.world_size = torch.distributed.get_rank(), torch.distributed.get_world_size()
        self.node, self.local_rank = context.get_node_rank(), context.get_local_rank()
        self._group = torch.distributed.new_group(backend="gloo", timeout=SLOWEST_CHECKPOINT)

    def gather(self, value: Any) -> list[Any]:
        """The values of all workers, in their order, on each of them; it waits for all."""
        values: list[Any] = [None] * self.world_size
        torch.distributed.all_gather_object(values, value, group=self._group)
        return values


class RayRuntime(LocalRuntime):
    """The runtime of a worker: metrics and warnings go to the driver, without waiting."""

    def __init__(self, reports: Any, checkpoints: CheckpointFolder, keep: int) -> None:
        super().__init__(checkpoints, keep, reports.put.remote, WorkerRanks())
        self.reports = reports

    def warn(self, message: str) -> None:
        """Send a warning to the driver, without waiting."""
        self.reports.warn.remote(message)


def train_in_worker(arguments: dict[str, Any]) -> None:
    """The function of each training worker; the same in all ranks."""
    _silence_libraries()
    job: TrainingJob = arguments["job"]
    config = Config.model_validate(arguments["config"])
    reports = arguments["reports"]
    try:
        task = build_task(job, config)
        options = train_config(job, config)
        folder = CheckpointFolder(arguments["checkpoints"])
        runtime = RayRuntime(reports, folder, options.keep_checkpoints)
        engine = DeepSpeedEngine(task.module, options, config.deepspeed, config.precision)
        train(task, options, engine, runtime)
    except SllmError as error:
        if ray.train.get_context().get_world_rank() == 0:
            ray.get(reports.fail.remote(str(error)))
        raise


def _silence_libraries() -> None:
    """Silence the libraries in workers, whose lines would break the driver's progress bar."""
    from transformers.utils import logging as transformers_logging

    transformers_logging.disable_progress_bar()
    log.setLevel(logging.ERROR)  # the driver has made the same checks, and warned
    for name in ("DeepSpeed", "deepspeed"):
        logging.getLogger(name).setLevel(logging.ERROR)
