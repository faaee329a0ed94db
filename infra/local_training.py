"""Training in this one process, without Ray or DeepSpeed: on a laptop, or to measure kernels on a GPU."""

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from pipeline.config import Config
from pipeline.errors import TrainingError
from pipeline.output_files import remove_checkpoint
from pipeline.training.checkpoint import STATE_FILE, STEP_NAME, BackgroundWriter, keep_model, newest, writing
from pipeline.training.engine import PlainEngine
from pipeline.training.loop import train
from pipeline.training.task import Task, TrainingJob, build_task, train_config

log = logging.getLogger("sllm")


ReportMetrics = Callable[[dict[str, float]], None]


class LocalRuntime:
    """Checkpoints in a folder on this machine."""

    def __init__(self, checkpoints: Path, keep: int, report: ReportMetrics) -> None:
        self.checkpoints, self.keep, self._report = checkpoints, keep, report
        self._writer = BackgroundWriter()

    def report(self, metrics: dict[str, float]) -> None:
        """Report the metrics of a step."""
        self._report(metrics)

    def warn(self, message: str) -> None:
        """Log it."""
        log.warning(message)

    def save(self, step: int, write: Callable[[Path], None], background: bool) -> None:
        """Write to a temporary folder, then rename it: a checkpoint appears whole or not at all."""
        self._writer.start(lambda: self._save(step, write))
        if not background:
            self._writer.wait()

    def wait(self) -> None:
        """Wait until the last checkpoint is written."""
        self._writer.wait()

    @contextmanager
    def latest(self) -> Iterator[Path | None]:
        """Folder of the newest checkpoint, or None."""
        yield newest(self.checkpoints)

    def found(self) -> list[Path]:
        """All whole checkpoints of ours, oldest first; folders with other names and links are not ours."""
        folders = (path for path in self.checkpoints.glob("step-*") if not path.is_symlink())
        return sorted(
            path for path in folders if STEP_NAME.fullmatch(path.name) and (path / STATE_FILE).is_file()
        )

    def _save(self, step: int, write: Callable[[Path], None]) -> None:
        partial = self.checkpoints / f".step-{step:09d}.partial"
        final = self.checkpoints / f"step-{step:09d}"
        try:
            with writing(final):
                remove_checkpoint(partial)
                partial.mkdir(parents=True, exist_ok=True)
                write(partial)
                remove_checkpoint(final)
                try:
                    partial.rename(final)
                except OSError as error:
                    raise TrainingError(
                        f"{final} is in the way of a checkpoint: move it away ({error.strerror})"
                    ) from error
        except BaseException:
            remove_checkpoint(partial)  # unfinished files take space on a full disk
            raise
        for old in self.found()[: -self.keep]:
            remove_checkpoint(old)


def train_locally(
    job: TrainingJob,
    config: Config,
    checkpoints: Path,
    output: Path,
    report: ReportMetrics,
    task: Task | None = None,
) -> None:
    """Train to the end and write the model to the folder `output`. `task`: the task of `job`, if it is built
    already."""
    options = train_config(job, config)
    task = task or build_task(job, config)
    runtime = LocalRuntime(checkpoints, options.keep_checkpoints, report)
    train(task, options, PlainEngine(task.module, options, config.precision), runtime)
    finished = newest(checkpoints)
    assert finished is not None
    keep_model(finished, output)
