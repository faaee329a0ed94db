"""What is measured between two log lines of training."""

import time
from collections.abc import Iterator
from typing import Any, TypeVar

import torch
from torch import Tensor

from pipeline.training.engine import Engine

T = TypeVar("T")


class Meter:
    """Sums since `start`, read as means per document token; ranks synchronise only when they are read."""

    def __init__(self, engine: Engine) -> None:
        self.engine = engine
        self.start()

    def start(self) -> None:
        """Forget all sums."""
        self.sums: dict[str, Tensor] = {}
        self.tokens = 0
        self.waited = 0.0
        self.since = time.perf_counter()

    def waiting_for(self, steps: Iterator[T]) -> Iterator[T]:
        """The same steps; it measures the time that the loop waits for them."""
        while True:
            start = time.perf_counter()
            loaded = next(steps, None)
            self.waited += time.perf_counter() - start
            if loaded is None:
                return
            yield loaded

    def add(self, sums: dict[str, Tensor], tokens: int, counts: bool) -> None:
        """The sums of a micro-batch (scalars), its document tokens, and whether they count."""
        for name, value in sums.items():
            known = self.sums.get(name)
            value = value.detach() * float(counts)
            self.sums[name] = value if known is None else known + value
        self.tokens += tokens * counts

    def read(self, prefix: str) -> dict[str, Any]:
        """Means per document token, of losses in nats; accuracy; tokens/s; share of the time spent waiting for data."""
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
        passed = time.perf_counter() - self.since
        out[f"{prefix}tokens_per_second"] = tokens / passed
        if self.waited:
            out[f"{prefix}data_wait_fraction"] = self.waited / passed
        return out
