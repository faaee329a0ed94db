"""FLOPs per token are those of training as a whole, though its micro-batches differ."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch

from pipeline.config import TrainConfig
from pipeline.evaluation import training_flops
from pipeline.evaluation.training_flops import MOST_MICRO_BATCHES, training_flops_per_token


class Plans:
    """Micro-batches of 100 tokens on average, each of which costs so many FLOPs."""

    def __init__(self, flops):
        self.flops = iter(flops)
        self.counted = 0

    def micro_batches(self, state):
        for flops in self.flops:
            self.counted += 1
            yield SimpleNamespace(tokens=100, batch=lambda flops=flops: torch.tensor(float(flops))), state


def counted(monkeypatch, flops):
    plans = Plans(flops)
    monkeypatch.setattr(training_flops, "Stream", lambda *_: plans)
    monkeypatch.setattr(training_flops, "training_flops_of", lambda module, batch: int(batch))
    task = SimpleNamespace(train=(), stream=None, module=torch.nn.Linear(1, 1))
    return training_flops_per_token(task, TrainConfig()), plans.counted


@pytest.mark.parametrize("seed", range(5))
def test_micro_batches_that_differ_are_counted_until_the_mean_is_sure(monkeypatch, seed):
    flops = np.random.default_rng(seed).normal(800.0, 64.0, 10_000)
    found, number = counted(monkeypatch, flops)
    assert 16 < number <= 100  # about (0.08 / 0.01) ** 2 = 64
    assert found == pytest.approx(8.0, rel=0.03)


def test_equal_ones_are_counted_a_few_times_and_wild_ones_not_for_ever(monkeypatch):
    assert counted(monkeypatch, [700.0] * 50) == (7.0, 16)
    _, number = counted(monkeypatch, [1.0, 1e6] * 500)
    assert number == MOST_MICRO_BATCHES
