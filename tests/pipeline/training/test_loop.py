"""The loop in one process: it learns, stops and resumes on the same curve, and names a diverged loss."""

import contextlib
import itertools
import json
import math
import resource

import numpy as np
import pytest
import torch

from infra.checkpoints.folder import CheckpointFolder
from infra.local_training import LocalRuntime
from pipeline.config import TrainConfig
from pipeline.errors import TrainingError
from pipeline.stream.order import Corpus
from pipeline.stream.windows import SentenceWindows
from pipeline.training.engine import PlainEngine
from pipeline.training.loop import learning_rate, train
from pipeline.training.task import Task, recompute_activations

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
        if "again" not in metrics:
            curve[metrics["step"]] = metrics
        if metrics["step"] == interrupt_at:
            raise KeyboardInterrupt

    runtime = LocalRuntime(CheckpointFolder(str(folder)), config.keep_checkpoints, report)
    with contextlib.suppress(KeyboardInterrupt):
        train(task, config, PlainEngine(task.module, config), runtime)
    return curve, runtime


def test_it_learns_and_leaves_a_model(task, tmp_path):
    curve, runtime = run(task(), CONFIG, tmp_path)
    assert curve[12]["train/nll_per_token"] < curve[1]["train/nll_per_token"] - 0.3
    assert {"dev/nll_per_token", "dev/token_accuracy"} <= curve[6].keys()
    assert runtime.checkpoints.names() == ["step-000000012", "step-000000010"]
    assert (tmp_path / "step-000000012" / "model" / "model.safetensors").is_file()


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


def test_points_before_the_checkpoint_are_reported_again_as_they_were(task, tmp_path, monkeypatch):
    monkeypatch.setattr("pipeline.training.loop.REPORTED_KEPT", 4)
    reported = []

    def receive(metrics):
        reported.append(dict(metrics))
        if metrics["step"] == 8 and "again" not in metrics:
            raise KeyboardInterrupt

    for _ in range(2):  # the second is stopped at the same step
        built = task()
        with contextlib.suppress(KeyboardInterrupt):
            runtime = LocalRuntime(CheckpointFolder(str(tmp_path)), 2, receive)
            train(built, CONFIG, PlainEngine(built.module, CONFIG), runtime)
    again = [point for point in reported if point.pop("again", None)]
    first = {point["step"]: point for point in reversed(reported)}
    assert [point["step"] for point in again] == [2, 3, 4, 5]
    assert again == [first[step] for step in (2, 3, 4, 5)]


def test_a_checkpoint_without_reported_points_loads(task, tmp_path):
    run(task(), CONFIG, tmp_path, interrupt_at=8)
    (state,) = tmp_path.glob("step-*/training_state.json")
    tree = json.loads(state.read_text())
    del tree["reported"], tree["checksums"]
    state.write_text(json.dumps(tree))
    (state.parent / "checksums.sha256").unlink()
    after, _ = run(task(), CONFIG, tmp_path)
    assert set(after) == set(range(6, 13))


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


def test_average_and_background_checkpoints_resume_on_the_same_curve(task, tmp_path):
    config = CONFIG.model_copy(update={"ema_decay": 0.8, "checkpoint_async": True, "eval_every": 1})
    whole, _ = run(task(), config, tmp_path / "whole")
    run(task(), config, tmp_path / "halves", interrupt_at=8)
    after, _ = run(task(), config, tmp_path / "halves")
    assert min(after) == 6
    for step, figures in after.items():  # dev figures are those of the average
        timeless = [k for k in figures if k != "time" and "wait" not in k and "per_second" not in k]
        assert {k: figures[k] for k in timeless} == {k: whole[step][k] for k in timeless}
    plain, _ = run(task(), CONFIG, tmp_path / "plain")
    assert plain[12]["train/nll_per_token"] == whole[12]["train/nll_per_token"]
    assert plain[12]["dev/nll_per_token"] != whole[12]["dev/nll_per_token"]


def test_fp16_scales_the_loss_and_resumes(task, tmp_path):
    def curve(folder, **options):
        found = {}

        def report(metrics):
            found[metrics["step"]] = metrics["train/nll_per_token"]
            if metrics["step"] == options.get("interrupt_at"):
                raise KeyboardInterrupt

        built, runtime = task(), LocalRuntime(CheckpointFolder(str(folder)), 2, report)
        engine = PlainEngine(built.module, CONFIG, precision="fp16")
        with contextlib.suppress(KeyboardInterrupt):
            train(built, CONFIG, engine, runtime)
        return found, engine.counters()

    whole, counters = curve(tmp_path / "whole")
    assert counters["loss_scale"] == 2**16 and counters["steps_at_loss_scale"] == 12
    curve(tmp_path / "halves", interrupt_at=8)
    after, resumed_counters = curve(tmp_path / "halves")
    assert resumed_counters == counters
    assert after == {step: whole[step] for step in after}
    fp32, _ = run(task(), CONFIG, tmp_path / "fp32")
    assert whole[12] == pytest.approx(fp32[12]["train/nll_per_token"], rel=0.01)


@pytest.mark.parametrize("in_background", [False, True])
def test_a_checkpoint_that_cannot_be_written_ends_training(task, tmp_path, monkeypatch, in_background):
    def full(*arguments):
        raise OSError("No space left on device")

    monkeypatch.setattr("pipeline.training.loop.write_state", full)
    config = CONFIG.model_copy(update={"checkpoint_async": in_background})
    with pytest.raises(TrainingError, match="No space left"):
        run(task(), config, tmp_path)
    assert not list(tmp_path.iterdir())


def test_a_bad_step_between_two_logs_is_not_in_a_checkpoint(task, tmp_path):
    built = task()
    config = CONFIG.model_copy(update={"log_every": 12, "eval_every": 12, "checkpoint_every": 3})
    engine = PlainEngine(built.module, config)
    steps = itertools.count(1)

    def step(learning_rate, update=engine.step):
        norm = update(learning_rate)
        if next(steps) == 4:
            with torch.no_grad():
                built.module.start_H.fill_(float("nan"))
        return norm

    engine.step = step
    runtime = LocalRuntime(CheckpointFolder(str(tmp_path)), 5, print)
    with pytest.raises(TrainingError, match="loss is nan at step 5"):
        train(built, config, engine, runtime)
    assert runtime.checkpoints.names() == ["step-000000003"]


@pytest.mark.parametrize("trunk", ["llama", "opt"])
def test_recomputed_activations_have_the_same_gradients(sllm, random_documents, trunk):
    """To the bit, dropout included."""
    windows = SentenceWindows(random_documents(8, seed=5), 16, 1, 2)
    gradients, saved = [], []
    for recompute in (False, True):
        model = sllm(trunk, token_dropout=0.2, latent_dropout=0.2).float().train()
        if recompute:
            recompute_activations(model)
        torch.manual_seed(1)
        sizes = []
        with torch.autograd.graph.saved_tensors_hooks(
            lambda t, s=sizes: (s.append(t.numel()), t)[1], lambda t: t
        ):
            objective = model(windows.batch(np.arange(8)))["objective"]
        objective.backward()
        gradients.append({name: p.grad for name, p in model.named_parameters()})
        saved.append(sum(sizes))
    for name, gradient in gradients[0].items():
        assert torch.equal(gradient, gradients[1][name]), name
    assert saved[1] < 0.6 * saved[0]


def test_a_diverged_loss_is_named(task, tmp_path):
    built = task()
    with torch.no_grad():
        built.module.start_H.fill_(float("nan"))
    with pytest.raises(TrainingError, match="loss is nan at step 1"):
        run(built, CONFIG, tmp_path)


@contextlib.contextmanager
def no_file_over(num_bytes):
    """As a full disk: the system refuses to write more than this into a file."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (num_bytes, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@pytest.mark.parametrize("in_background", [False, True])
def test_a_full_disk_ends_training_in_one_line_and_leaves_the_checkpoint_before(
    task, tmp_path, in_background
):
    config = CONFIG.model_copy(update={"checkpoint_async": in_background, "steps": 5})
    run(task(), config, tmp_path)
    more = config.model_copy(update={"steps": 15})
    with (
        no_file_over(20_000),
        pytest.raises(TrainingError, match=r"step-0.* could not be written.*MiB are free"),
    ):
        run(task(), more, tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["step-000000005"]  # and nothing half-written
    whole, _ = run(task(), more, tmp_path / "whole")
    after, _ = run(task(), more, tmp_path)
    assert min(after) == 6 and after[15]["train/nll_per_token"] == pytest.approx(
        whole[15]["train/nll_per_token"], abs=1
    )


@pytest.mark.parametrize(
    "state",
    [
        *("[]", "null", "3", "{}", '{"world_size": 1}', '{"world_size": "one", "step": 5}'),
        *('{"world_size": 1, "step": -5}', '{"world_size": 1, "step": 5}', '{"world_size": 1e9, "step": 5}'),
        '{"world_size": 1, "step": 5, "tokens": "x", "stream": [], "engine": {}, "running_loss": {"a": 1}}',
    ],
)
def test_a_state_that_is_none_of_ours_is_damage(task, tmp_path, state):
    run(task(), CONFIG.model_copy(update={"steps": 5}), tmp_path)
    (tmp_path / "step-000000005" / "training_state.json").write_text(state)
    with pytest.raises(TrainingError, match="damaged"):
        run(task(), CONFIG, tmp_path)
