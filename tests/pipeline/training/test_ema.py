"""The average of the weights is that of a loop by hand, and training does not notice it."""

import numpy as np
import pytest
import torch
from torch import nn

from pipeline.config import TrainConfig
from pipeline.training.ema import WeightAverage
from pipeline.training.engine import PlainEngine

DECAY = 0.7


class Line(nn.Module):
    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.line = nn.Linear(3, 2)
        self.frozen = nn.Linear(2, 2).requires_grad_(False)

    def forward(self, x):
        return {"objective": self.frozen(self.line(x)).square().sum()}


def train(engine, steps, average=None):
    """Weights after each step."""
    seen = []
    for step in range(steps):
        x = torch.from_numpy(np.random.default_rng(step).normal(size=(4, 3))).float()
        engine.backward(engine.forward(x)["objective"])
        engine.step(1e-2)
        if average is not None:
            average.update(step + 1)
        seen.append({name: p.detach().clone() for name, p in engine.module.named_parameters()})
    return seen


@pytest.fixture
def engine():
    return PlainEngine(Line(), TrainConfig(learning_rate=1e-2))


def test_the_average_is_that_of_a_loop_by_hand(engine):
    names = ("line.weight", "line.bias")
    by_hand = {name: engine.module.get_parameter(name).detach().double() for name in names}
    average = WeightAverage(engine, DECAY)
    for step, weights in enumerate(train(engine, 30, average), start=1):
        decay = min(DECAY, (1 + step) / (10 + step))
        for name in names:
            by_hand[name] = decay * by_hand[name] + (1 - decay) * weights[name].double()
    assert average.averages.keys() == set(names)  # what is frozen is not averaged
    with average.in_place():
        for name in names:
            found = engine.weights()[name].double()
            torch.testing.assert_close(found, by_hand[name], rtol=1e-5, atol=1e-7)


def test_training_does_not_notice_it(engine):
    average = WeightAverage(engine, DECAY)
    seen = train(engine, 5, average)
    with average.in_place():
        assert not torch.equal(engine.weights()["line.weight"], seen[-1]["line.weight"])
    seen += train(engine, 5, average)
    alone = PlainEngine(Line(), TrainConfig(learning_rate=1e-2))
    expected = train(alone, 5) + train(alone, 5)
    for mine, theirs in zip(seen, expected, strict=True):
        assert all(torch.equal(mine[name], theirs[name]) for name in theirs)
