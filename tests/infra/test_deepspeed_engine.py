"""DeepSpeed at every ZeRO stage with two workers has the loss curve of one plain process, also after a restart."""

import contextlib
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import ray.cloudpickle
import ray.train
import torch
from ray.train.torch import TorchTrainer
from transformers import AutoConfig

from infra.deepspeed_engine import DeepSpeedEngine, merge
from pipeline.batches import SentenceWindows
from pipeline.config import DeepSpeedConfig, TrainConfig
from pipeline.engine import PlainEngine
from pipeline.sllm import Sllm, SllmModelConfig
from pipeline.tasks import Task
from pipeline.training import train
from pipeline.vae import SentenceVaeConfig

STAGES = (0, 1, 2, 3)
CONFIG = TrainConfig(
    steps=6,
    micro_batch_tokens=80,
    micro_batches_per_step=3,  # two workers: the last round has one repeat that must not count
    learning_rate=1e-3,
    warmup_steps=2,
    log_every=1,
    eval_every=3,
    checkpoint_every=3,
)
WATCHED = ("train/nll_per_token", "train/gradient_norm", "train/token_accuracy", "dev/nll_per_token")


def build_task():
    """The real SLLM, small, with dropout, the same on every rank."""
    torch.manual_seed(0)
    trunk = AutoConfig.for_model(
        "opt", vocab_size=50, hidden_size=32, num_hidden_layers=2, num_attention_heads=4, ffn_dim=48,
        word_embed_proj_dim=32, pad_token_id=None, dropout=0.0,
    )  # fmt: skip
    vae = SentenceVaeConfig(
        vocab_size=50, hidden_size=32, token_dropout=0.1, latent_dropout=0.1, kl_weight=1e-3
    )
    model = Sllm(SllmModelConfig(vae_config=vae, trunk_config=trunk, context_sentences=16))
    rng = np.random.default_rng(0)
    lengths = rng.integers(1, 12, 200)
    counts = rng.multinomial(200, np.ones(30) / 30).clip(1)
    counts[-1] += 200 - counts.sum()
    tokens = rng.integers(3, 50, lengths.sum()).astype(np.int32)
    sentence_starts = np.cumsum([0, *counts])
    documents = SimpleNamespace(
        sentence_lengths=lengths,
        sentence_starts_N1=sentence_starts,
        token_starts_N1=np.concatenate([[0], np.cumsum(lengths)])[sentence_starts],
        tokens=lambda start, end: tokens[start:end],
    )
    windows = SentenceWindows(documents, 16, 1, 2)
    return Task(model, model, SimpleNamespace(save=lambda folder: None), windows, windows)


class FolderRuntime:
    """All ranks write into one folder of this machine."""

    def __init__(self, folder, resume_from=None):
        self.folder, self.resume_from, self.curve = Path(folder), resume_from, {}

    def report(self, metrics):
        self.curve[int(metrics["step"])] = {key: metrics[key] for key in WATCHED if key in metrics}

    def save(self, step, write):
        (self.folder / str(step)).mkdir(parents=True, exist_ok=True)
        write(self.folder / str(step))
        if torch.distributed.is_initialized():
            torch.distributed.barrier()

    @contextlib.contextmanager
    def latest(self):
        yield self.resume_from and self.folder / str(self.resume_from)


def curves(folder, make_engine):
    """Loss curves of a whole run, and of one that starts again from the checkpoint of step 3."""
    runs = []
    for resume_from in (None, 3):
        task = build_task()
        runtime = FolderRuntime(folder, resume_from)
        train(task, CONFIG, make_engine(task.module), runtime)
        runs.append(runtime.curve)
    return runs


def worker(arguments):
    import warnings

    warnings.simplefilter("ignore")  # other people's; pytest's filters do not reach workers
    out = {}
    for stage in STAGES:
        out[stage] = curves(
            f"{arguments['folder']}/{stage}",
            lambda module, stage=stage: DeepSpeedEngine(
                module, CONFIG, DeepSpeedConfig(zero_stage=stage), precision="fp32"
            ),
        )
    bf16 = FolderRuntime(f"{arguments['folder']}/bf16")
    task = build_task()
    engine = DeepSpeedEngine(task.module, CONFIG, DeepSpeedConfig(zero_stage=2), precision="bf16")
    train(task, CONFIG, engine, bf16)
    if ray.train.get_context().get_world_rank() == 0:
        torch.save({"fp32": out, "bf16": bf16.curve}, f"{arguments['folder']}/curves.pt")


@pytest.fixture(scope="module")
def zero_curves(ray_cluster, tmp_path_factory):
    ray.cloudpickle.register_pickle_by_value(sys.modules[__name__])
    folder = tmp_path_factory.mktemp("zero")
    TorchTrainer(
        worker,
        train_loop_config={"folder": str(folder)},
        scaling_config=ray.train.ScalingConfig(num_workers=2),
        run_config=ray.train.RunConfig(name="zero", storage_path=str(folder / "ray")),
    ).fit()
    return torch.load(folder / "curves.pt", weights_only=True), folder


@pytest.fixture(scope="module")
def plain_curves(tmp_path_factory):
    folder = tmp_path_factory.mktemp("plain")
    return curves(folder, lambda module: PlainEngine(module, CONFIG))


@pytest.mark.parametrize("stage", STAGES)
def test_two_workers_have_the_curve_of_one_process(zero_curves, plain_curves, stage):
    whole, resumed = zero_curves[0]["fp32"][stage]
    assert sorted(whole) == [1, 2, 3, 4, 5, 6]
    assert sorted(resumed) == [4, 5, 6]
    for step, expected in plain_curves[0].items():
        assert whole[step] == pytest.approx(expected, rel=2e-4), step
    for step, figures in resumed.items():
        assert figures == pytest.approx(whole[step], rel=2e-5), step


def test_the_curve_is_not_flat(plain_curves):
    whole, resumed = plain_curves
    assert whole[6]["dev/nll_per_token"] < whole[3]["dev/nll_per_token"] - 0.05
    assert resumed == {step: whole[step] for step in (4, 5, 6)}


def test_bf16_stays_near_fp32(zero_curves, plain_curves):
    for step, figures in zero_curves[0]["bf16"].items():
        expected = plain_curves[0][step]["train/nll_per_token"]
        assert figures["train/nll_per_token"] == pytest.approx(expected, rel=0.02)


@pytest.mark.parametrize("stage", STAGES)
def test_the_weights_that_are_kept_are_those_that_were_trained(
    zero_curves, plain_curves, stage, tmp_path_factory
):
    _, folder = zero_curves
    kept = Sllm.from_pretrained(folder / str(stage) / "6" / "model")
    plain = Sllm.from_pretrained(tmp_path_factory.getbasetemp() / "plain0" / "6" / "model")
    for (name, mine), theirs in zip(kept.named_parameters(), plain.parameters(), strict=True):
        torch.testing.assert_close(
            mine, theirs, rtol=5e-3, atol=2e-4, msg=lambda m, name=name: f"{name}: {m}"
        )


def test_a_raw_deepspeed_configuration_is_merged_section_by_section():
    ours = {"zero_optimization": {"stage": 2}, "bf16": {"enabled": False}}
    theirs = {"zero_optimization": {"overlap_comm": True}, "wall_clock_breakdown": True}
    assert merge(ours, theirs) == {
        "zero_optimization": {"stage": 2, "overlap_comm": True},
        "bf16": {"enabled": False},
        "wall_clock_breakdown": True,
    }
