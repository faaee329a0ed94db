"""DeepSpeed at every ZeRO stage, offloaded or not, on 1, 2 and 3 workers has the loss curve of one plain process, and
resumes from each other's checkpoints."""

import contextlib
import multiprocessing
import os
import sys
from pathlib import Path

import pytest
import ray.cloudpickle
import torch

from infra.deepspeed_engine import DeepSpeedEngine
from pipeline.config import DeepSpeedConfig, TrainConfig
from pipeline.errors import ConfigError
from pipeline.models.sllm import Sllm
from pipeline.training.checkpoint import AVERAGE, WEIGHT, Checkpoint
from pipeline.training.engine import PlainEngine
from pipeline.training.loop import train
from pipeline.training.task import recompute_activations
from tests.infra.cluster import small_task

ZERO = {
    "0": DeepSpeedConfig(zero_stage=0),
    "1": DeepSpeedConfig(zero_stage=1),
    "2": DeepSpeedConfig(zero_stage=2),
    "3": DeepSpeedConfig(zero_stage=3),
    "2-offloaded": DeepSpeedConfig(zero_stage=2, offload_optimizer="cpu"),
    "3-offloaded": DeepSpeedConfig(zero_stage=3, offload_optimizer="cpu", offload_parameters="cpu"),
}


HALF = {"bf16": ("0", "1", "3"), "fp16": ("1", "2")}


NVME = DeepSpeedConfig(zero_stage=3, offload_optimizer="nvme", nvme_path="/nvme")


NEXT = dict(zip(ZERO, [*list(ZERO)[1:], "0"], strict=True))
"""The kind that resumes from the checkpoint of a kind, on three workers."""


CONFIG = TrainConfig(
    steps=6,
    micro_batch_tokens=80,
    micro_batches_per_step=3,  # two workers: the last round has one repeat that must not count
    learning_rate=1e-3,
    warmup_steps=2,
    log_every=1,
    eval_every=3,
    checkpoint_every=2,
    ema_decay=0.6,
)


COMPARED = ("train/nll_per_token", "train/gradient_norm", "train/token_accuracy", "dev/nll_per_token")


class StopError(Exception):
    pass


class FolderRuntime:
    """All ranks write into one folder of this machine; the run ends after the checkpoint of step `until`."""

    def __init__(self, folder, resume_from=None, until=None):
        self.folder, self.resume_from, self.until = Path(folder), resume_from, until
        self.curve, self.warnings = {}, []

    def report(self, metrics):
        if "again" not in metrics:
            self.curve[int(metrics["step"])] = {key: metrics[key] for key in COMPARED if key in metrics}

    def warn(self, message):
        self.warnings.append(message)

    def save(self, step, write, background):
        (self.folder / str(step)).mkdir(parents=True, exist_ok=True)
        write(self.folder / str(step))
        if torch.distributed.is_initialized():
            torch.distributed.barrier()
        if step == self.until:
            raise StopError

    def wait(self):
        pass

    def wants_checkpoint(self, step):
        return False

    @contextlib.contextmanager
    def latest(self):
        yield self.resume_from


def run(make_engine, runtime, recompute=False):
    """The curve of a run, and what it warned of."""
    task = small_task.build_task()
    if recompute:
        recompute_activations(task.model)
    with contextlib.suppress(StopError):
        train(task, CONFIG, make_engine(task.module), runtime)
    return {"curve": runtime.curve, "warnings": runtime.warnings}


def deepspeed(zero, precision="fp32"):
    return lambda module: DeepSpeedEngine(module, CONFIG, ZERO[zero], precision)


def two_workers(folder, out):
    for zero in ZERO:
        out[zero] = run(deepspeed(zero), FolderRuntime(folder / zero), recompute=zero.endswith("offloaded"))
    from deepspeed.accelerator import get_accelerator

    get_accelerator().is_fp16_supported = lambda: True  # torch emulates it
    for precision, kinds in HALF.items():
        for zero in kinds:
            folder_of_run = folder / precision / zero
            out[precision, zero] = run(deepspeed(zero, precision), FolderRuntime(folder_of_run))
            again = FolderRuntime(folder / "again", folder_of_run / "4")
            out[precision, zero, "resumed"] = run(deepspeed(zero, precision), again)
    out["sums of two"] = {zero: error_of_sum(zero) for zero in ("1", "2", "3")}


def refused(config, precision):
    """What is said on a machine without fp16 arithmetic and libaio."""
    from deepspeed.accelerator import get_accelerator
    from deepspeed.ops.op_builder import AsyncIOBuilder

    get_accelerator().is_fp16_supported = lambda: False
    AsyncIOBuilder.is_compatible = lambda self, verbose: False
    try:
        DeepSpeedEngine(torch.nn.Linear(2, 2), CONFIG, config, precision)
    except ConfigError as error:
        return str(error)


def one_worker(folder, out):
    for zero in ZERO:
        runtime = FolderRuntime(folder / "one" / zero, folder / zero / "2", until=4)
        out[zero, "one"] = run(deepspeed(zero), runtime)
    out["refused"] = {"fp16": refused(DeepSpeedConfig(), "fp16"), "nvme": refused(NVME, "fp32")}
    out["sums"] = {zero: error_of_sum(zero) for zero in ("0", "1", "1-offloaded", *list(ZERO)[2:])}
    out["from plain"] = run(deepspeed("2"), FolderRuntime(folder / "again", folder / "plain" / "4"))


class Line(torch.nn.Module):
    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.line = torch.nn.Linear(16, 8)

    def forward(self, x):
        return torch.tanh(self.line(x.to(self.line.weight.dtype))).float().sum() / 64


def error_of_sum(zero):
    """Of the bf16 gradients of 64 micro-batches on each rank: how far their sum is from that in fp32, relatively."""
    from deepspeed.utils import safe_get_full_grad

    rank, world_size = torch.distributed.get_rank(), torch.distributed.get_world_size()
    seed = torch.Generator().manual_seed(1)
    micro_batches = (torch.randn(64 * world_size, 4, 16, generator=seed) + 0.5).unbind()
    half, expected = Line().to(torch.bfloat16), 0.0
    for x in micro_batches:
        half.zero_grad()
        half(x).backward()
        expected = expected + torch.cat([p.grad.float().flatten() for p in half.parameters()])
    module = Line()
    config = DeepSpeedConfig(zero_stage=1, offload_optimizer="cpu") if zero == "1-offloaded" else ZERO[zero]
    train_config = TrainConfig(micro_batches_per_step=64 * world_size)
    engine = DeepSpeedEngine(module, train_config, config, "bf16")
    for x in micro_batches[rank::world_size]:
        engine.backward(engine.forward(x))
    found = torch.cat([safe_get_full_grad(p).float().flatten() for p in module.parameters()])
    engine.step(1e-3)
    return float((found - expected).norm() / expected.norm())


def three_workers(folder, out):
    for zero in ZERO:
        runtime = FolderRuntime(folder / "three" / zero, folder / "one" / zero / "4")
        out[zero, "three"] = run(deepspeed(NEXT[zero]), runtime)


class ByValue:
    """A function of this module for a process that cannot import it."""

    def __init__(self, function):
        self.function = function

    def __reduce__(self):
        return ray.cloudpickle.loads, (ray.cloudpickle.dumps(self.function),)


def rank_main(function, folder, rank, world_size):
    import warnings

    warnings.simplefilter("ignore")  # other people's; pytest's filters do not reach workers
    torch.set_num_threads(1)
    os.environ["LOCAL_RANK"] = str(rank)
    meeting = folder / f"meeting-{function.__name__}"
    torch.distributed.init_process_group("gloo", f"file://{meeting}", rank=rank, world_size=world_size)
    out = {}
    function(folder, out)
    if rank == 0:
        torch.save(out, folder / f"{function.__name__}.pt")
    torch.distributed.destroy_process_group()


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """All curves by name, and the folder with the checkpoints; one server imports everything once, for all workers."""
    for module in (sys.modules[__name__], small_task):
        ray.cloudpickle.register_pickle_by_value(module)
    folder = tmp_path_factory.mktemp("zero")
    out = {"plain": run(lambda module: PlainEngine(module, CONFIG), FolderRuntime(folder / "plain"))}
    server = multiprocessing.get_context("forkserver")
    server.set_forkserver_preload(
        ["deepspeed", "transformers", "infra.deepspeed_engine", "pipeline.training.loop"]
    )
    for function, world_size in ((two_workers, 2), (one_worker, 1), (three_workers, 3)):
        workers = [
            server.Process(target=ByValue(rank_main), args=(ByValue(function), folder, rank, world_size))
            for rank in range(world_size)
        ]
        for worker in workers:
            worker.start()
        for worker in workers:
            worker.join()
        assert [worker.exitcode for worker in workers] == [0] * world_size
        out |= torch.load(folder / f"{function.__name__}.pt", weights_only=True)
    # From DeepSpeed's checkpoint to the plain engine.
    resumed = FolderRuntime(folder / "again", folder / "3" / "4")
    out["to plain"] = run(lambda module: PlainEngine(module, CONFIG), resumed)
    return out, folder


def same_curve(found, expected, steps, tolerance):
    assert sorted(found["curve"]) == steps
    for step in steps:
        assert found["curve"][step] == pytest.approx(expected["curve"][step], rel=tolerance), step


@pytest.mark.parametrize("zero", ZERO)
def test_two_workers_have_the_curve_of_one_process(runs, zero):
    same_curve(runs[0][zero], runs[0]["plain"], [1, 2, 3, 4, 5, 6], 2e-4)


@pytest.mark.parametrize("zero", ZERO)
def test_two_one_and_three_workers_resume_from_each_other(runs, zero):
    """... and one ZeRO stage from another."""
    whole, one, three = (runs[0][key] for key in (zero, (zero, "one"), (zero, "three")))
    same_curve(one, whole, [3, 4], 1e-4)
    same_curve(three, whole, [5, 6], 1e-4)
    assert "was written by 2 workers; training goes on with 1" in one["warnings"][0]
    assert "was written by 1 workers; training goes on with 3" in three["warnings"][0]


def test_plain_and_deepspeed_resume_from_each_other(runs):
    for name in ("from plain", "to plain"):
        same_curve(runs[0][name], runs[0]["plain"], [5, 6], 1e-4)


def test_what_the_machine_cannot_do_is_refused_in_our_words(runs):
    assert "no fp16 arithmetic" in runs[0]["refused"]["fp16"]
    assert "libaio-dev" in runs[0]["refused"]["nvme"]


def test_gradients_of_micro_batches_are_summed_in_fp32(runs):
    """At all stages but 0, which has no such choice; between workers, stages 2 and 3 send them in bf16."""
    sums, of_two = runs[0]["sums"], runs[0]["sums of two"]
    assert 1e-3 < sums.pop("0") < 1e-2
    assert sums == pytest.approx(dict.fromkeys(sums, 0.0), abs=1e-6)
    assert of_two.pop("1") == pytest.approx(0.0, abs=1e-6)
    assert of_two == pytest.approx(dict.fromkeys(of_two, 0.0), abs=1e-3)


def test_the_curve_is_not_flat(runs):
    plain = runs[0]["plain"]["curve"]
    assert plain[6]["dev/nll_per_token"] < plain[3]["dev/nll_per_token"] - 0.05


@pytest.mark.parametrize(("precision", "zero"), [(p, zero) for p, kinds in HALF.items() for zero in kinds])
def test_half_precision_stays_near_fp32_and_resumes(runs, precision, zero):
    for step, figures in runs[0][precision, zero]["curve"].items():
        expected = runs[0]["plain"]["curve"][step]["train/nll_per_token"]
        assert figures["train/nll_per_token"] == pytest.approx(expected, rel=0.02)
    same_curve(runs[0][precision, zero, "resumed"], runs[0][precision, zero], [5, 6], 0.0)


@pytest.mark.parametrize("folder_of_run", [*ZERO, *(f"three/{zero}" for zero in ZERO)])
def test_the_weights_that_are_kept_are_the_average_of_those_that_were_trained(runs, folder_of_run):
    mine, plain = (Checkpoint(runs[1] / name / "6") for name in (folder_of_run, "plain"))
    off, changed = 0.0, 0.0
    for name, kept in Sllm.from_pretrained(mine.folder / "model").named_parameters():
        found, expected, last = (
            checkpoint.read(kind, name, 0, kept.numel())
            for checkpoint, kind in ((mine, AVERAGE), (plain, AVERAGE), (plain, WEIGHT))
        )
        assert torch.equal(kept.detach().flatten(), found), name
        # A key's bias has no gradient but rounding, which Adam makes as large as any other: single values may differ.
        torch.testing.assert_close(found, expected, rtol=5e-3, atol=1e-3)
        off, changed = off + float((found - expected).norm()), changed + float((last - expected).norm())
    assert off < 0.05 * changed  # it is the average, and not the weights themselves
