"""An exponential moving average of the weights; each rank keeps that of its own elements."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor

from pipeline.training.checkpoint import AVERAGE, WEIGHT, Checkpoint
from pipeline.training.engine import Engine


class WeightAverage:
    """The average that is evaluated and saved as the model; training itself does not use it.

    The decay after update t is min(decay, (1 + t) / (10 + t)), so that the initial weights do not dominate in a short
    run. Memory: 4 bytes per element of this rank, on the device of the fp32 weight.
    """

    def __init__(self, engine: Engine, decay: float) -> None:
        self.engine, self.decay = engine, decay
        self.parts = engine.parts()
        self.averages: dict[str, Tensor] = {
            part.name: part.read(WEIGHT).detach().clone() for part in self.parts
        }

    def update(self, step: int) -> None:
        """Add the weights after `step` steps."""
        decay = min(self.decay, (1 + step) / (10 + step))
        weights = [part.read(WEIGHT) for part in self.parts]
        with torch.no_grad():
            torch._foreach_lerp_(list(self.averages.values()), weights, 1 - decay)

    def load(self, checkpoint: Checkpoint) -> None:
        """Load the average from a checkpoint."""
        for part in self.parts:
            average = self.averages[part.name]
            average.copy_(checkpoint.read(AVERAGE, part.name, part.start, len(average)))

    @contextmanager
    def in_place(self) -> Iterator[None]:
        """A context in which the engine's weights are the average; afterwards they are restored exactly."""
        trained = {part.name: part.read(WEIGHT).detach().clone() for part in self.parts}
        self._put(self.averages)
        try:
            yield
        finally:
            self._put(trained)

    def _put(self, weights: dict[str, Tensor]) -> None:
        with torch.no_grad():
            for part in self.parts:
                part.write(WEIGHT, weights[part.name])
        self.engine.weights_written()
