"""The first bad step is named; a spike is a spike and the fall at the start is not."""

import dataclasses
import math
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from pipeline.config import TrainConfig
from pipeline.errors import TrainingError
from pipeline.training.loss_monitor import LossMonitor, RunningLoss


def engine(scales_loss=False, ranks=1):
    return SimpleNamespace(
        device=torch.device("cpu"), scales_loss=scales_loss, sum_over_ranks=lambda values: values * ranks
    )


def monitor(losses, norms=None, engine=engine(), running=None, tokens=4):  # noqa: B008
    """Give the monitor these losses per token -> warnings and the metrics of the one look at the end."""
    warnings = []
    seen = LossMonitor(TrainConfig(), engine, warnings.append, running or RunningLoss())
    for step, loss in enumerate(losses, start=1):
        norm = 1.0 if norms is None else norms[step - 1]
        seen.add(step, torch.tensor(loss * tokens), tokens, norm)
    return warnings, seen.check()


def falling(steps):
    return 4 + 4 * np.exp(-np.arange(steps) / 30) + np.random.default_rng(0).normal(0, 0.1, steps)


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_the_first_bad_loss_is_named(bad):
    with pytest.raises(TrainingError, match=f"loss is {bad} at step 3: lower train.learning_rate"):
        monitor([2.0, 2.0, bad, bad, 2.0])


def test_a_bad_gradient_is_named_before_the_loss_that_it_spoils():
    with pytest.raises(TrainingError, match="gradient norm is inf at step 2, with a loss of 2"):
        monitor([2.0, 2.0, math.nan], [1.0, torch.tensor(math.inf), math.nan])


def test_with_a_scaled_loss_a_bad_gradient_is_a_skipped_step():
    _, metrics = monitor([2.0, 2.0, 2.0], [math.inf, torch.tensor(math.inf), 1.5], engine(scales_loss=True))
    assert metrics["train/skipped_steps"] == 2
    assert metrics["train/gradient_norm"] == 1.5


def test_an_ordinary_run_has_no_spike():
    warnings, metrics = monitor(falling(300))
    assert warnings == []
    assert metrics["train/loss_spikes"] == 0


def test_a_spike_is_reported_with_its_step_and_does_not_hide_the_next():
    losses = falling(300)
    losses[[150, 160]] += 3
    warnings, metrics = monitor(losses)
    assert metrics["train/loss_spikes"] == 2
    assert "at step 151" in warnings[0] and "deviations over its running mean 4.0" in warnings[0]
    assert "at step 161" in warnings[1]


def test_a_new_level_is_learned():
    losses = falling(400)
    losses[200:] += 3
    warnings, _ = monitor(losses)
    assert 0 < len(warnings) < 20


def test_the_loss_is_that_of_all_ranks():
    running = RunningLoss()
    monitor([1.0] * 5, engine=engine(ranks=2), running=running)
    assert running.mean == pytest.approx(2.0)


def test_a_resumed_monitor_is_the_same():
    losses = falling(100)
    whole, first = RunningLoss(), RunningLoss()
    monitor(losses, running=whole)
    monitor(losses[:60], running=first)
    resumed = RunningLoss(**dataclasses.asdict(first))
    monitor(losses[60:], running=resumed)
    assert resumed == whole


def test_the_running_deviation_is_that_of_the_losses():
    running = RunningLoss()
    losses = np.random.default_rng(1).normal(5, 0.5, 2000)
    monitor(losses, running=running)
    assert running.mean == pytest.approx(5, abs=0.3)
    assert math.sqrt(running.variance) == pytest.approx(0.5, rel=0.4)
