"""The training loop, the same for every model and launcher.

One step is one global batch of `micro_batches_per_step` micro-batches, planned by `pipeline.stream` and distributed to
the ranks. The loss of a step is the sum over the global batch divided by its document tokens, so it does not depend on
world size or on the sizes of micro-batches. Nor does dropout, which is seeded by the micro-batch.
"""

import math
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, closing, nullcontext
from dataclasses import asdict, dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import Tensor

from pipeline.config import TrainConfig
from pipeline.errors import TrainingError
from pipeline.stream.batches import Batch
from pipeline.stream.order import Stream, StreamState, deal
from pipeline.stream.prefetch import prefetch
from pipeline.training.checkpoint import MODEL_FOLDER, Checkpoint, snapshot, write_state
from pipeline.training.ema import WeightAverage
from pipeline.training.engine import Engine, load_checkpoint
from pipeline.training.loss_monitor import LossMonitor, RunningLoss
from pipeline.training.meter import Meter
from pipeline.training.task import Task

REPORTED_KEPT = 500
"""Number of reported points in a checkpoint."""


class Runtime(Protocol):
    """What a launcher provides: storage of checkpoints, and a receiver of metrics and warnings."""

    def report(self, metrics: dict[str, float]) -> None:
        """Metrics of a step (rank 0 only): `step`, `train/...`, `dev/...`, and `time` (Unix, seconds).

        `again` is 1 for a point that a process before this one reported too: it may have been lost on the way.
        """

    def warn(self, message: str) -> None:
        """Show a message that does not end the job; any thread may call it."""

    def save(self, step: int, write: Callable[[Path], None], background: bool) -> None:
        """Save a checkpoint: every rank's `write` fills a folder, which appears whole or not at all.

        With `background` it returns before the checkpoint is written. It first waits for the previous one, and raises
        its error.
        """

    def wait(self) -> None:
        """Wait until the last checkpoint is written. Raises its error."""

    def wants_checkpoint(self, step: int) -> bool:
        """Whether to save a checkpoint after this step, whatever `checkpoint_every` says; the same on all ranks."""

    def latest(self) -> AbstractContextManager[Path | None]:
        """Folder of the newest checkpoint, or None."""


@dataclass(frozen=True)
class Progress:
    """The part of a checkpoint beside the engine's state."""

    step: int = 0
    """Steps done."""
    tokens: int = 0
    """Document tokens seen."""
    stream: dict[str, Any] = field(default_factory=StreamState().as_dict)
    """State of the stream after the last trained batch, without prefetched ones."""


@dataclass(frozen=True)
class GlobalBatch:
    """The micro-batches of one step: their tokens on all ranks, and those of this rank."""

    tokens: int
    """Document tokens on all ranks."""
    share: list[tuple[Batch, int, bool]]
    """Micro-batches of this rank, their document tokens, and whether they count."""
    state: StreamState
    """State of the stream after the step."""


def learning_rate(step: int, config: TrainConfig) -> float:
    """Learning rate of step 0, 1, ...: linear warm-up, then a cosine down to the last step of this run."""
    warmup = min(config.warmup_steps, config.steps - 1)
    if step < warmup:
        return config.learning_rate * (step + 1) / (warmup + 1)
    share = (step - warmup) / max(config.steps - 1 - warmup, 1)
    low = config.min_learning_rate_fraction
    return config.learning_rate * (low + (1 - low) * 0.5 * (1 + math.cos(math.pi * min(share, 1.0))))


def train(task: Task, config: TrainConfig, engine: Engine, runtime: Runtime) -> dict[str, float]:
    """Train to the last step, from the newest checkpoint if there is one -> last metrics.

    Raises `TrainingError` when the loss is no longer finite, or a checkpoint does not fit or cannot be written.
    """
    average = WeightAverage(engine, config.ema_decay) if config.ema_decay is not None else None
    progress, running, reported = _resume(engine, average, runtime)
    if engine.rank == 0:
        for point in reported:
            runtime.report({**point, "again": 1.0})
    monitor = LossMonitor(config, engine, runtime.warn if engine.rank == 0 else lambda message: None, running)
    todo = config.steps - progress.step
    ahead = islice(_load(task, config, engine, StreamState.from_dict(progress.stream)), todo)
    try:
        with closing(prefetch(ahead, task.stream.prefetch_steps, task.stream.stall_seconds)) as steps:
            return _train(task, config, engine, runtime, average, monitor, progress, reported, steps)
    finally:
        runtime.wait()


def _train(
    task: Task,
    config: TrainConfig,
    engine: Engine,
    runtime: Runtime,
    average: WeightAverage | None,
    monitor: LossMonitor,
    progress: Progress,
    reported: deque[dict[str, float]],
    steps: Iterator[GlobalBatch],
) -> dict[str, float]:
    meter = Meter(engine)
    metrics: dict[str, float] = {}
    for step, loaded in enumerate(meter.waiting_for(steps), start=progress.step):
        rate = learning_rate(step, config)
        nll, norm = _step(engine, loaded, config, step, rate, meter)
        done = step + 1
        monitor.add(done, nll, loaded.tokens, norm)
        if average is not None:
            average.update(done)
        progress = Progress(done, progress.tokens + loaded.tokens, loaded.state.as_dict())
        last = done == config.steps
        if last:
            for corpus in task.train:
                corpus.finish()
        evaluates = task.dev is not None and (done % config.eval_every == 0 or last)
        wanted = not last and runtime.wants_checkpoint(done)
        saves = done % config.checkpoint_every == 0 or last or wanted
        logs = done % config.log_every == 0 or evaluates or last
        checked = monitor.check() if logs or saves else {}  # so that no failed step is in a checkpoint
        if logs:
            metrics = {"step": done, **meter.read("train/"), "train/learning_rate": rate, **checked}
            metrics["train/tokens"] = progress.tokens
            if evaluates:
                with average.in_place() if average is not None else nullcontext():
                    metrics |= evaluate_stream(task, config, engine)
            if engine.rank == 0:
                reported.append({**metrics, "time": time.time()})
                runtime.report(reported[-1])
            meter.start()
        if saves:
            write = _checkpoint(task, engine, average, progress, monitor.running, reported, last)
            runtime.save(done, write, config.checkpoint_async and not last)
            meter.start()
    return metrics


def evaluate_stream(task: Task, config: TrainConfig, engine: Engine) -> dict[str, float]:
    """Loss on the first `eval_micro_batches` micro-batches of the dev split, the same ones each time."""
    assert task.dev is not None
    stream = Stream(task.dev, config.micro_batch_tokens, 0, task.stream)
    plan = list(islice(stream.first_epoch(), config.eval_micro_batches))
    meter = Meter(engine)
    with engine.evaluating():
        for micro_batch, counts in deal(plan, engine.rank, engine.world_size):
            sums = engine.forward(micro_batch.batch().to(engine.device))
            meter.add(sums, micro_batch.tokens, counts)
    return {name: value for name, value in meter.read("dev/").items() if "per_second" not in name}


def _load(task: Task, config: TrainConfig, engine: Engine, state: StreamState) -> Iterator[GlobalBatch]:
    stream = Stream(task.train, config.micro_batch_tokens, config.seed, task.stream)
    for plan, after in stream.steps(state, config.micro_batches_per_step):
        share = deal(plan, engine.rank, engine.world_size)
        batches = [(micro_batch.batch(), micro_batch.tokens, counts) for micro_batch, counts in share]
        yield GlobalBatch(sum(micro_batch.tokens for micro_batch in plan), batches, after)


def _step(
    engine: Engine,
    loaded: GlobalBatch,
    config: TrainConfig,
    step: int,
    rate: float,
    meter: Meter,
) -> tuple[Tensor, float | Tensor]:
    """One optimizer step -> this rank's NLL (nats), and the gradient norm."""
    scale = 1.0 / loaded.tokens
    nll = torch.zeros((), device=engine.device)
    for round_, (batch, tokens, counts) in enumerate(loaded.share):
        index = round_ * engine.world_size + engine.rank
        torch.manual_seed(
            ((config.seed * config.steps + step) * config.micro_batches_per_step + index) % 2**63
        )
        sums = engine.forward(batch.to(engine.device))
        engine.backward(sums["objective"] * (scale if counts else 0.0))
        meter.add(sums, tokens, counts)
        nll = nll + sums["nll"].detach() * float(counts)
    return nll, engine.step(rate)


def _resume(
    engine: Engine, average: WeightAverage | None, runtime: Runtime
) -> tuple[Progress, RunningLoss, deque[dict[str, float]]]:
    reported: deque[dict[str, float]] = deque(maxlen=REPORTED_KEPT)
    with runtime.latest() as folder:
        if folder is None:
            return Progress(), RunningLoss(), reported
        checkpoint = Checkpoint(folder)
        try:
            fields = Progress.__dataclass_fields__
            progress = Progress(**{name: checkpoint.state[name] for name in fields})
            running = RunningLoss(**checkpoint.state["running_loss"])
            reported.extend({**point} for point in checkpoint.state.get("reported", []))
            StreamState.from_dict(progress.stream)
            load_checkpoint(engine, checkpoint)
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise TrainingError(
                f"the checkpoint in {folder} is damaged ({type(error).__name__}: {error}): remove that folder to go on "
                "from the one before, or start anew with --force"
            ) from error
        if average is not None:
            average.load(checkpoint)
        state = checkpoint.state
        if engine.rank == 0 and state["world_size"] != engine.world_size:
            runtime.warn(
                f"the checkpoint of step {state['step']} was written by {state['world_size']} workers; "
                f"training goes on with {engine.world_size}"
            )
        return progress, running, reported


def _checkpoint(
    task: Task,
    engine: Engine,
    average: WeightAverage | None,
    progress: Progress,
    running: RunningLoss,
    reported: deque[dict[str, float]],
    last: bool,
) -> Callable[[Path], None]:
    """Copy the state -> a function that writes the copy, and after the last step the model, into a folder."""
    buffers = engine.buffers() if engine.rank == 0 else {}
    tensors = snapshot(engine.parts(), average.averages if average is not None else {}, buffers)
    state = asdict(progress) | {
        "world_size": engine.world_size,
        "engine": engine.counters(),
        "running_loss": asdict(running),
        "reported": list(reported),
    }
    weights: dict[str, Tensor] = {}
    if last:
        with average.in_place() if average is not None else nullcontext():
            weights = engine.weights()

    def write(folder: Path) -> None:
        if last and engine.rank == 0:
            task.save(folder / MODEL_FOLDER, weights)
        write_state(folder, tensors, state, engine.rank)

    return write
