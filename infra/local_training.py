"""Training in this one process, without Ray or DeepSpeed: on a laptop, or to measure kernels on a GPU."""

import logging
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path

from infra.checkpoints.folder import CheckpointFolder
from infra.checkpoints.ranks import Alone, Ranks
from pipeline.config import Config
from pipeline.training.checkpoint import BackgroundWriter
from pipeline.training.engine import PlainEngine
from pipeline.training.loop import train
from pipeline.training.task import Task, TrainingJob, build_task, train_config

log = logging.getLogger("sllm")


ReportMetrics = Callable[[dict[str, float]], None]


class LocalRuntime:
    """The runtime of one process, or of one rank: checkpoints in a folder, metrics to a function."""

    def __init__(
        self, checkpoints: CheckpointFolder, keep: int, report: ReportMetrics, ranks: Ranks | None = None
    ) -> None:
        self.checkpoints, self.keep, self._report = checkpoints, keep, report
        self.ranks = ranks or Alone()
        self._writer = BackgroundWriter()

    def report(self, metrics: dict[str, float]) -> None:
        """Report the metrics of a step. Raises the error of a checkpoint that is written in the background."""
        self._writer.check()
        self._report(metrics)

    def warn(self, message: str) -> None:
        """Log it."""
        log.warning(message)

    def save(self, step: int, write: Callable[[Path], None], background: bool) -> None:
        """Save a checkpoint, which appears whole or not at all, and remove older ones."""
        self._writer.start(lambda: self.checkpoints.save(step, write, self.keep, self.ranks))
        if not background:
            self._writer.wait()

    def wait(self) -> None:
        """Wait until the last checkpoint is written."""
        self._writer.wait()

    def wants_checkpoint(self, step: int) -> bool:
        """Nobody asks for one."""
        return False

    def latest(self) -> AbstractContextManager[Path | None]:
        """A folder with the newest whole checkpoint of any launcher, or None."""
        self.checkpoints.remove_temporary(self.ranks)
        return self.checkpoints.newest(self.ranks, self.warn)


def train_locally(
    job: TrainingJob,
    config: Config,
    checkpoints: str,
    output: str,
    report: ReportMetrics,
    task: Task | None = None,
) -> None:
    """Train to the end and write the model to `output`. `task`: the task of `job`, if it is built already.

    `checkpoints` and `output` are paths or fsspec URLs.
    """
    options = train_config(job, config)
    task = task or build_task(job, config)
    folder = CheckpointFolder(checkpoints)
    runtime = LocalRuntime(folder, options.keep_checkpoints, report)
    train(task, options, PlainEngine(task.module, options, config.precision), runtime)
    folder.keep_model(output)
