"""The loop in one process: it learns, stops and resumes on the same curve, and names a diverged loss."""

import contextlib
import itertools
import math

import numpy as np
import pytest
import torch

from infra.local_training import LocalRuntime
from pipeline.batches import SentenceWindows
from pipeline.config import TrainConfig
from pipeline.engine import PlainEngine
from pipeline.errors import TrainingError
from pipeline.stream.order import Corpus
from pipeline.tasks import Task
from pipeline.training import learning_rate, train

CONFIG = TrainConfig(
    steps=12,
    micro_batch_tokens=60,
    micro_batches_per_step=3,
    learning_rate=3e-3,
    warmup_steps=3,
    log_every=1,
    eval_every=6,
    checkpoint_every=5,
)


class NoTokenizer:
    def save(self, folder):
        pass


@pytest.fixture
def task(sllm, random_documents):
    def build():
        model = sllm(token_dropout=0.2, latent_dropout=0.2).float()
        train_on, dev = (SentenceWindows(random_documents(20, seed=s), 16, 1, 2) for s in (5, 6))
        return Task(model, model, NoTokenizer(), [Corpus.of(train_on)], [Corpus.of(dev)])

    return build


def run(task, config, folder, interrupt_at=None):
    curve = {}

    def report(metrics):
        curve[metrics["step"]] = metrics
        if metrics["step"] == interrupt_at:
            raise KeyboardInterrupt

    runtime = LocalRuntime(folder, config.keep_checkpoints, report)
    with contextlib.suppress(KeyboardInterrupt):
        train(task, config, PlainEngine(task.module, config), runtime)
    return curve, runtime


def test_it_learns_and_leaves_a_model(task, tmp_path):
    curve, runtime = run(task(), CONFIG, tmp_path)
    assert curve[12]["train/nll_per_token"] < curve[1]["train/nll_per_token"] - 0.3
    assert {"dev/nll_per_token", "dev/token_accuracy"} <= curve[6].keys()
    assert [folder.name for folder in runtime.found()] == ["step-000000010", "step-000000012"]
    assert (runtime.found()[-1] / "model" / "model.safetensors").is_file()


def test_an_interrupted_run_has_the_curve_of_an_uninterrupted_one(task, tmp_path):
    whole, _ = run(task(), CONFIG, tmp_path / "whole")
    before, _ = run(task(), CONFIG, tmp_path / "halves", interrupt_at=8)
    after, _ = run(task(), CONFIG, tmp_path / "halves")
    assert min(after) == 6  # from the checkpoint of step 5
    for step in whole:
        parts = [half[step] for half in (before, after) if step in half]
        for part in parts:
            for name in ("train/nll_per_token", "train/gradient_norm", "train/learning_rate", "train/tokens"):
                assert part[name] == whole[step][name], (step, name)
    assert after[12]["dev/nll_per_token"] == whole[12]["dev/nll_per_token"]


def test_the_loss_is_per_token_of_the_whole_global_batch(task, tmp_path):
    """However a global batch is cut into micro-batches, its gradient is that of one big batch."""
    built = task()
    built.module.eval()  # no dropout: PlainEngine turns training on, so scale by hand
    source = built.train[0].open(np.arange(1))
    windows = np.arange(6)
    tokens = int(source.tokens_W[windows].sum())
    gradients = []
    for pieces in ([windows], [windows[:1], windows[1:4], windows[4:]]):
        built.module.zero_grad()
        for piece in pieces:
            (built.module(source.batch(piece))["objective"] / tokens).backward()
        gradients.append(built.module.stop_head.weight.grad.clone())
    torch.testing.assert_close(*gradients)


def test_warm_up_and_cosine_end_with_the_run():
    rates = [learning_rate(step, CONFIG) for step in range(CONFIG.steps)]
    assert rates[:3] == pytest.approx([3e-3 / 4, 3e-3 / 2, 3e-3 * 3 / 4])
    assert rates[3] == 3e-3
    assert rates[-1] == pytest.approx(3e-4)
    assert all(a > b for a, b in itertools.pairwise(rates[3:]))
    assert math.isfinite(learning_rate(0, TrainConfig(steps=1)))


def test_a_diverged_loss_is_named(task, tmp_path):
    built = task()
    with torch.no_grad():
        built.module.start_H.fill_(float("nan"))
    with pytest.raises(TrainingError, match="loss is nan at step 1"):
        run(built, CONFIG, tmp_path)
