"""A training worker on a cluster: DeepSpeed trains, and all workers write checkpoints together."""

import logging
import time
from datetime import timedelta
from typing import Any

import ray.train
import torch
from ray.train.collective import broadcast_from_rank_zero
from torch import Tensor

from infra.checkpoints.folder import CheckpointFolder
from infra.cluster.nodes import node_of_worker
from infra.cluster.reports import Sender
from infra.cluster.watchdog import Watchdog
from infra.deepspeed_engine import DeepSpeedEngine
from infra.local_training import LocalRuntime, log
from pipeline.config import Config
from pipeline.stream.batches import Batch
from pipeline.training.loop import train
from pipeline.training.task import TrainingJob, build_task, train_config

SLOWEST_CHECKPOINT = timedelta(hours=6)
"""How long a rank waits for the files of another one; a rank that ends is noticed at once."""

PREEMPTION_CHECK_SECONDS = 5.0
LAST_WORDS_SECONDS = 5
"""How long a worker that ends itself tries to say why."""


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

    def __init__(self, sender: Sender, checkpoints: CheckpointFolder, keep: int) -> None:
        super().__init__(checkpoints, keep, lambda metrics: sender.send(("metrics", metrics)), WorkerRanks())
        self.sender = sender
        self._next_check = 0
        self._checked: tuple[int, float] | None = None
        self._noticed: list[str] = []

    def warn(self, message: str) -> None:
        """Send a warning to the driver, without waiting."""
        self.sender.send(("warning", message))

    def wants_checkpoint(self, step: int) -> bool:
        """Once, when a node of the workers will soon be taken away; Ray is asked every few seconds."""
        if step < self._next_check:
            return False
        now = time.monotonic()
        last_step, since = self._checked or (step, now)
        self._checked = step, now
        # Every rank must ask after the same steps, so rank 0 says when the next time is.
        notice = ray.train.get_preemption_info()
        steps = PREEMPTION_CHECK_SECONDS * (step - last_step) / max(now - since, 1e-3)
        self._next_check = step + broadcast_from_rank_zero(max(1, round(steps)))
        if notice is None or notice.preempted_node_ids == self._noticed:
            return False
        self._noticed = notice.preempted_node_ids
        if ray.train.get_context().get_world_rank() == 0:
            self.warn(f"a node of the training workers will be taken away: checkpoint at step {step:,}")
        return True


class _WatchedEngine(DeepSpeedEngine):
    """An engine whose every micro-batch is progress."""

    def __init__(self, watchdog: Watchdog, *arguments: Any) -> None:
        super().__init__(*arguments)
        self._watchdog = watchdog

    def forward(self, batch: Batch) -> dict[str, Tensor]:
        """As that of `DeepSpeedEngine`."""
        self._watchdog.beat()
        return super().forward(batch)


def train_in_worker(arguments: dict[str, Any]) -> None:
    """The function of each training worker; the same in all ranks."""
    _silence_libraries()
    job: TrainingJob = arguments["job"]
    config = Config.model_validate(arguments["config"])
    sender = Sender(arguments["reports"])
    sender.send(("node", node_of_worker()))

    def last_words(text: str) -> None:
        sender.send(("warning", text))
        sender.close(LAST_WORDS_SECONDS)

    watchdog = Watchdog(config.ray.step_timeout_seconds, last_words)
    try:
        if config.ray.use_gpu and not torch.cuda.is_available() and torch.distributed.get_rank() == 0:
            sender.send(
                ("warning", "ray.use_gpu: PyTorch finds no CUDA in the workers, so they train on CPUs")
            )
        task = build_task(job, config)
        options = train_config(job, config)
        engine = _WatchedEngine(watchdog, task.module, options, config.deepspeed, config.precision)
        folder = CheckpointFolder(arguments["checkpoints"])
        train(task, options, engine, RayRuntime(sender, folder, options.keep_checkpoints))
    finally:
        watchdog.close()
        sender.close()


def _silence_libraries() -> None:
    """Silence the libraries in workers, whose lines would break the driver's progress bar."""
    from transformers.utils import logging as transformers_logging

    transformers_logging.disable_progress_bar()
    log.setLevel(logging.ERROR)  # the driver has made the same checks, and warned
    for name in ("DeepSpeed", "deepspeed"):
        logging.getLogger(name).setLevel(logging.ERROR)
