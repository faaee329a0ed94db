"""Training in this one process, without Ray or DeepSpeed: on a laptop, or to measure kernels on a GPU."""

import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from pipeline.config import Config
from pipeline.engine import PlainEngine
from pipeline.tasks import TrainingJob, build_task, train_config
from pipeline.training import MODEL_FOLDER, train

Report = Callable[[dict[str, float]], None]


class LocalRuntime:
    """Checkpoints in a folder on this machine."""

    def __init__(self, checkpoints: Path, keep: int, report: Report) -> None:
        self.checkpoints, self.keep, self._report = checkpoints, keep, report

    def report(self, metrics: dict[str, float]) -> None:
        """Hand the metrics of a step on."""
        self._report(metrics)

    def save(self, step: int, write: Callable[[Path], None]) -> None:
        """Write aside, then rename: a checkpoint is there whole or not at all."""
        partial = self.checkpoints / f".step-{step:09d}.partial"
        shutil.rmtree(partial, ignore_errors=True)
        partial.mkdir(parents=True)
        write(partial)
        final = self.checkpoints / f"step-{step:09d}"
        shutil.rmtree(final, ignore_errors=True)
        partial.rename(final)
        for old in self.found()[: -self.keep]:
            shutil.rmtree(old)

    @contextmanager
    def latest(self) -> Iterator[Path | None]:
        """The newest checkpoint's folder, or none."""
        yield next(reversed(self.found()), None)

    def found(self) -> list[Path]:
        """All whole checkpoints, oldest first."""
        return sorted(self.checkpoints.glob("step-*"))


def train_locally(job: TrainingJob, config: Config, checkpoints: Path, output: Path, report: Report) -> None:
    """Train to the end; the model's files then lie in the folder `output`."""
    options = train_config(job, config)
    task = build_task(job, config)
    runtime = LocalRuntime(checkpoints, options.keep_checkpoints, report)
    train(task, options, PlainEngine(task.module, options, config.precision), runtime)
    shutil.copytree(runtime.found()[-1] / MODEL_FOLDER, output, dirs_exist_ok=True)
