"""The loss monitor: it detects a loss or gradient that is not finite, and spikes of the loss.

Losses and gradient norms stay on the device until metrics are logged or a checkpoint is due, so there is no
synchronisation per step; the error still names the step.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from pipeline.config import TrainConfig
from pipeline.errors import TrainingError
from pipeline.training.engine import Engine

MEAN_STEPS, DEVIATION_STEPS = 10, 50
"""Horizons, in steps, of the running mean of the loss and of the deviation from it. That of the mean is short, since
the loss falls."""
QUIET_STEPS = 20
"""Steps without a check for spikes: at the start the loss falls too fast."""

Warn = Callable[[str], None]


@dataclass
class RunningLoss:
    """Exponentially weighted mean of the loss per step, and variance around it; saved in checkpoints."""

    steps: int = 0
    mean: float = 0.0
    variance: float = 0.0

    def deviations(self, loss: float) -> float:
        """Running standard deviations by which a loss is above the running mean; 0 during the first steps."""
        if self.steps < QUIET_STEPS:
            return 0.0
        return (loss - self.mean) / max(math.sqrt(self.variance), 1e-3 * abs(self.mean), 1e-12)

    def add(self, loss: float) -> None:
        """Add the loss of a step."""
        self.steps += 1
        change = loss - self.mean
        self.mean += max(1 / self.steps, 1 / MEAN_STEPS) * change
        if self.steps > 1:
            self.variance += max(1 / (self.steps - 1), 1 / DEVIATION_STEPS) * (change**2 - self.variance)


class LossMonitor:
    """Collects each step's loss and gradient norm, and checks them together."""

    def __init__(self, config: TrainConfig, engine: Engine, warn: Warn, running: RunningLoss) -> None:
        self.config, self.engine, self.warn, self.running = config, engine, warn, running
        self._steps: list[tuple[int, Tensor, int, float | Tensor]] = []

    def add(self, step: int, nll: Tensor, tokens: int, norm: float | Tensor) -> None:
        """This rank's share of the loss (nats) of a step, the document tokens of all ranks, the gradient norm."""
        self._steps.append((step, nll, tokens, norm))

    def check(self) -> dict[str, float]:
        """Metrics of the steps since the last check. All ranks call it.

        Raises `TrainingError` naming the first step whose loss or gradient is no finite number. With a scaled loss
        (fp16) such a gradient only lowers the scale: the step was skipped, and is counted.
        """
        steps, self._steps = self._steps, []
        if not steps:
            return {}
        device = self.engine.device
        mine = torch.stack([nll.detach().to(device, torch.float64) for _, nll, _, _ in steps])
        losses = self.engine.sum_over_ranks(mine).tolist()
        norms = torch.stack([torch.as_tensor(norm, device=device).double() for *_, norm in steps]).tolist()
        spikes = skipped = 0
        for (step, _, tokens, _), nll, norm in zip(steps, losses, norms, strict=True):
            loss = nll / max(tokens, 1)
            if not math.isfinite(loss):
                raise self._diverged(f"the training loss is {loss} at step {step}")
            if not math.isfinite(norm):
                if not self.engine.scales_loss:
                    raise self._diverged(
                        f"the gradient norm is {norm} at step {step}, with a loss of {loss:.4g}"
                    )
                skipped += 1
            spikes += self._spiked(step, loss)
        metrics = {"train/gradient_norm": norms[-1], "train/loss_spikes": float(spikes)}
        return metrics | ({"train/skipped_steps": float(skipped)} if self.engine.scales_loss else {})

    def _diverged(self, what: str) -> TrainingError:
        return TrainingError(
            f"{what}: lower train.learning_rate, raise train.warmup_steps, or lower train.max_gradient_norm; the "
            "last checkpoint is from before that step"
        )

    def _spiked(self, step: int, loss: float) -> bool:
        limit = self.config.spike_deviations
        deviations = self.running.deviations(loss)
        spiked = bool(limit) and deviations > limit
        if spiked:
            self.warn(
                f"the training loss is {loss:.4g} at step {step}, {deviations:.1f} deviations over its running mean "
                f"{self.running.mean:.4g}: if it stays there, lower train.learning_rate or max_gradient_norm"
            )
            # A spike moves the mean by at most the limit; a lasting new level still becomes the mean.
            loss = self.running.mean + limit * math.sqrt(self.running.variance)
        self.running.add(loss)
        return spiked
