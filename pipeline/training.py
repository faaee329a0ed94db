"""The training loop, the same for every model and launcher.

One step is one global batch of `micro_batches_per_step` micro-batches, planned by `pipeline.stream` and dealt out to
the ranks. The loss of a step is the sum over the global batch divided by its document tokens, so neither world size
nor the sizes of micro-batches change it; dropout is seeded by the micro-batch, so they do not change that either.
"""

import json
import math
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, closing
from dataclasses import asdict, dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import Tensor

from pipeline.batches import Batch
from pipeline.config import TrainConfig
from pipeline.engine import Engine
from pipeline.errors import TrainingError
from pipeline.stream.order import Stream, StreamState, deal
from pipeline.stream.prefetch import prefetch
from pipeline.tasks import Task

STATE_FILE = "training_state.json"
MODEL_FOLDER = "model"


class Runtime(Protocol):
    """What carries a training run: where checkpoints go, who hears of progress."""

    def report(self, metrics: dict[str, float]) -> None:
        """Metrics of a step (rank 0 only): `step`, `train/...`, `dev/...`."""

    def save(self, step: int, write: Callable[[Path], None]) -> None:
        """Make a checkpoint: every rank's `write` fills a folder; it appears whole or not at all."""

    def latest(self) -> AbstractContextManager[Path | None]:
        """The newest checkpoint's folder, or none."""


@dataclass(frozen=True)
class Progress:
    """What a checkpoint holds besides the engine's state."""

    step: int = 0
    """Steps done."""
    tokens: int = 0
    """Document tokens seen."""
    stream: dict[str, Any] = field(default_factory=StreamState().as_dict)
    """The stream's state: of what was trained on, not of what was read ahead."""
    world_size: int = 1
    """Ranks whose parts the checkpoint holds."""


@dataclass(frozen=True)
class Step:
    """The global batch of a step, and what this rank does of it."""

    tokens: int
    """Document tokens of the global batch."""
    share: list[tuple[Batch, int, bool]]
    """Micro-batches of this rank, their document tokens, and whether they count."""
    state: StreamState
    """Of the stream after the step."""


def learning_rate(step: int, config: TrainConfig) -> float:
    """Of step 0, 1, ...: linear warm-up, then a cosine down to the last step of this run."""
    warmup = min(config.warmup_steps, config.steps - 1)
    if step < warmup:
        return config.learning_rate * (step + 1) / (warmup + 1)
    share = (step - warmup) / max(config.steps - 1 - warmup, 1)
    low = config.min_learning_rate_fraction
    return config.learning_rate * (low + (1 - low) * 0.5 * (1 + math.cos(math.pi * min(share, 1.0))))


def train(task: Task, config: TrainConfig, engine: Engine, runtime: Runtime) -> dict[str, float]:
    """Train to the last step, from the newest checkpoint if there is one -> last metrics.

    Raises `TrainingError` when the loss is no longer finite or a checkpoint does not fit.
    """
    progress = _resume(engine, runtime)
    todo = config.steps - progress.step
    ahead = islice(_load(task, config, engine, StreamState.from_dict(progress.stream)), todo)
    with closing(prefetch(ahead, task.stream.prefetch_steps, task.stream.stall_seconds)) as steps:
        return _train(task, config, engine, runtime, progress, steps)


def _train(
    task: Task,
    config: TrainConfig,
    engine: Engine,
    runtime: Runtime,
    progress: Progress,
    steps: Iterator[Step],
) -> dict[str, float]:
    meter = _Meter(engine)
    metrics: dict[str, float] = {}
    for step, loaded in enumerate(steps, start=progress.step):
        rate = learning_rate(step, config)
        norm = _step(engine, loaded, config, step, rate, meter)
        done, tokens = step + 1, progress.tokens + loaded.tokens
        progress = Progress(done, tokens, loaded.state.as_dict(), engine.world_size)
        last = done == config.steps
        evaluates = task.dev is not None and (done % config.eval_every == 0 or last)
        if done % config.log_every == 0 or evaluates or last:
            metrics = {"step": done, **meter.read("train/"), "train/learning_rate": rate}
            metrics |= {"train/gradient_norm": float(norm), "train/tokens": tokens}
            if not math.isfinite(metrics["train/nll_per_token"]):
                raise TrainingError(
                    f"the training loss is {metrics['train/nll_per_token']} at step {done}: lower "
                    "train.learning_rate or raise train.warmup_steps; the last checkpoint is from before"
                )
            if evaluates:
                metrics |= evaluate_stream(task, config, engine)
            if engine.rank == 0:
                runtime.report(metrics)
            meter.start()
        if done % config.checkpoint_every == 0 or last:
            runtime.save(done, lambda folder: _write(folder, task, engine, progress, last))  # noqa: B023
            meter.start()
    return metrics


def evaluate_stream(task: Task, config: TrainConfig, engine: Engine) -> dict[str, float]:
    """Loss on `eval_micro_batches` micro-batches of the dev split, always the same ones, for the curve."""
    assert task.dev is not None
    stream = Stream(task.dev, config.micro_batch_tokens, 0, task.stream)
    plan = list(islice(stream.first_epoch(), config.eval_micro_batches))
    meter = _Meter(engine)
    with engine.evaluating():
        for micro_batch, counts in deal(plan, engine.rank, engine.world_size):
            sums = engine.forward(micro_batch.batch().to(engine.device))
            meter.add(sums, micro_batch.tokens, counts)
    return {name: value for name, value in meter.read("dev/").items() if "per_second" not in name}


def _load(task: Task, config: TrainConfig, engine: Engine, state: StreamState) -> Iterator[Step]:
    stream = Stream(task.train, config.micro_batch_tokens, config.seed, task.stream)
    for plan, after in stream.steps(state, config.micro_batches_per_step):
        share = deal(plan, engine.rank, engine.world_size)
        batches = [(micro_batch.batch(), micro_batch.tokens, counts) for micro_batch, counts in share]
        yield Step(sum(micro_batch.tokens for micro_batch in plan), batches, after)


def _step(
    engine: Engine,
    loaded: Step,
    config: TrainConfig,
    step: int,
    rate: float,
    meter: "_Meter",
) -> float | Tensor:
    scale = 1.0 / loaded.tokens
    for round_, (batch, tokens, counts) in enumerate(loaded.share):
        place = round_ * engine.world_size + engine.rank
        torch.manual_seed((config.seed * config.steps + step) * config.micro_batches_per_step + place)
        sums = engine.forward(batch.to(engine.device))
        engine.backward(sums["objective"] * (scale if counts else 0.0))
        meter.add(sums, tokens, counts)
    return engine.step(rate)


def _resume(engine: Engine, runtime: Runtime) -> Progress:
    with runtime.latest() as folder:
        if folder is None:
            return Progress()
        progress = Progress(**json.loads((folder / STATE_FILE).read_text()))
        if progress.world_size != engine.world_size:
            raise TrainingError(
                f"the checkpoint of step {progress.step} was written by {progress.world_size} workers and "
                f"cannot go on with {engine.world_size}: set ray.num_workers={progress.world_size}, or --force"
            )
        engine.load(folder)
        return progress


def _write(folder: Path, task: Task, engine: Engine, progress: Progress, last: bool) -> None:
    engine.save(folder)
    weights = engine.weights() if last else {}
    if engine.rank == 0:
        (folder / STATE_FILE).write_text(json.dumps(asdict(progress)))
        if last:
            task.save(folder / MODEL_FOLDER, weights)


class _Meter:
    """Sums since `start`, read as means per document token; ranks meet only when it is read."""

    def __init__(self, engine: Engine) -> None:
        self.engine = engine
        self.start()

    def start(self) -> None:
        self.sums: dict[str, Tensor] = {}
        self.tokens = 0
        self.since = time.perf_counter()

    def add(self, sums: dict[str, Tensor], tokens: int, counts: bool) -> None:
        for name, value in sums.items():
            known = self.sums.get(name)
            value = value.detach() * float(counts)
            self.sums[name] = value if known is None else known + value
        self.tokens += tokens * counts

    def read(self, prefix: str) -> dict[str, Any]:
        names = sorted(self.sums)
        mine = [float(self.sums[name]) for name in names]
        device = self.engine.device
        *values, tokens = self.engine.sum_over_ranks(
            torch.tensor([*mine, float(self.tokens)], dtype=torch.float64, device=device)
        ).tolist()
        found = dict(zip(names, values, strict=True))
        correct, predicted = found.pop("correct", 0.0), found.pop("predicted", 0.0)
        out = {f"{prefix}{name}_per_token": value / max(tokens, 1) for name, value in found.items()}
        if predicted:
            out[f"{prefix}token_accuracy"] = correct / predicted
        out[f"{prefix}tokens_per_second"] = tokens / (time.perf_counter() - self.since)
        return out
