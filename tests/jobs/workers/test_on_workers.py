"""Evaluation and generation on workers of a cluster: as in one process to the last bit, and never in the driver."""

import contextlib
import json
import os
import signal
from pathlib import Path

import psutil
import pytest

from jobs import compare, evaluate, generate, prepare
from jobs.reports.evaluation import REPORT_FILE
from jobs.runner.progress import WorkProgress
from jobs.training import train_lm, train_sllm, train_vae
from pipeline.config import load_config
from pipeline.models.model_folder import load_model

TRAIN = "{steps: 1, micro_batch_tokens: 256, micro_batches_per_step: 1, eval_every: 4, checkpoint_every: 4}"
TEXT = "The lazy dog sleeps. The quick fox jumps over it, and runs away! Does the dog wake? No. "


@pytest.fixture(scope="module")
def made(tmp_path_factory, empty_store):
    """How to configure a job on shards and three models."""
    root = tmp_path_factory.mktemp("workers")
    rows = [{"id": f"{i}", "text": TEXT * (1 + i % 5) + f"Story {i} ends here."} for i in range(40)]
    (root / "corpus.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (root / "mlflow.db").write_bytes(empty_store.read_bytes())
    base = [
        f"tracking.uri=sqlite:///{root}/mlflow.db", f'data.inputs=["{root}/corpus.jsonl"]', "launcher=local",
        "data.dev_fraction=0.4", "tokenizer.vocab_size=300", "prepare.num_workers=1", "lm.context_tokens=64",
        "sllm.context_sentences=8", *(f"{model}.train={TRAIN}" for model in ("lm", "vae", "sllm")),
        "trunk.config.model_type=llama", "trunk.config.hidden_size=32", "trunk.config.num_hidden_layers=1",
        "trunk.config.intermediate_size=32", "trunk.config.num_attention_heads=2",
        "trunk.config.num_key_value_heads=2", "vae.num_heads=2", "prepare.max_sentence_tokens=30",
        "evaluate.micro_batch_tokens=64", f"shards={root}/shards",
    ]  # fmt: skip

    def config(output, *overrides):
        return load_config(None, [*base, f"output={root}/{output}", *overrides])

    prepare.run(config("shards"))
    train_lm.run(config("lm"))
    train_vae.run(config("vae", f"models.lm={root}/lm"))
    train_sllm.run(config("sllm", f"models.lm={root}/lm", f"models.vae={root}/vae"))
    return config, [f"models.{name}={root}/{name}" for name in ("lm", "vae", "sllm")]


@pytest.fixture
def no_weights_here(monkeypatch):
    """An error where this process loads weights."""

    def refuse(*arguments, **options):
        raise AssertionError("weights are loaded in the driver")

    assert load_model.__module__ == "pipeline.models.model_folder"
    for module in ("saved", "token_lm"):
        monkeypatch.setattr(f"pipeline.models.{module}.load_model", refuse)


def reports_of(config, models, *overrides):
    name = "-".join(["report", *overrides])
    evaluate.run(config(name, *models, *overrides))
    return Path(config(name).output, REPORT_FILE).read_bytes()


@pytest.fixture(scope="module")
def here(made):
    """The report of this process."""
    return reports_of(*made)


def test_two_workers_give_the_report_of_this_process(made, here, ray_cluster, no_weights_here):
    assert json.loads(here).keys() >= {"unigram", "lm", "vae", "sllm", "sllm_latents_shuffled"}
    assert reports_of(*made, "launcher=ray", "ray.num_workers=2") == here


def test_so_does_one_that_is_killed_in_the_middle(made, here, ray_cluster, monkeypatch):
    killed = []

    class Killing(WorkProgress):
        def begin(self, name, tokens):
            done = super().begin(name, tokens)

            def advance(more):
                done(more)
                if name == "sllm" and not killed:
                    os.kill(an_actor(), signal.SIGKILL)
                    killed.append(name)

            return advance

    monkeypatch.setattr("jobs.evaluate.WorkProgress", Killing)
    monkeypatch.setattr("pipeline.evaluation.evaluate.PART_MICRO_BATCHES", 2)
    assert reports_of(*made, "launcher=ray", "ray.num_workers=1", "ray.cpus_per_worker=0.5") == here
    assert killed == ["sllm"]


def an_actor() -> int:
    """A worker process of this session's cluster."""
    for process in psutil.Process().children(recursive=True):
        with contextlib.suppress(psutil.NoSuchProcess):
            if process.cmdline()[:1] and process.cmdline()[0].startswith("ray::_Actor"):
                return process.pid
    raise AssertionError("no worker runs")


def test_a_text_generated_on_a_worker_is_that_of_this_process(made, ray_cluster, request, capfd):
    config, models = made
    options = [
        "generate.prompt=The fox. ",
        "generate.temperature=1",
        "generate.max_tokens=60",
        "generate.seed=3",
    ]
    generate.run(config("text", models[2], *options))
    expected = Path(config("text").output, generate.TEXT_FILE).read_bytes()
    printed = capfd.readouterr().out
    request.getfixturevalue("no_weights_here")
    generate.run(config("text-elsewhere", models[2], *options, "launcher=ray"))
    assert Path(config("text-elsewhere").output, generate.TEXT_FILE).read_bytes() == expected
    assert capfd.readouterr().out == printed


def test_where_the_gpu_is_missing_is_said(made, capfd):
    config, models = made
    few = ["evaluate.max_documents=1", "evaluate.ablations=false", "ray.use_gpu=true"]
    evaluate.run(config("no-gpu", models[0], *few))
    generate.run(config("no-gpu-text", models[2], "generate.max_tokens=1", "ray.use_gpu=true"))
    said = capfd.readouterr().err
    for verb in ("evaluate", "generate"):
        assert f"{verb}: ray.use_gpu=true, but PyTorch finds no CUDA device" in said


def test_designs_are_measured_on_a_worker(made, ray_cluster, request):
    config, _ = made
    options = [
        "compare.variants={lm: {title: token-level, stages: {train-lm: 1}}}", "compare.tokens=300",
        "compare.generated_tokens=4", "compare.repeats=1", "compare.batch_sizes=[1]",
        "compare.position_edges=[0, 16, 1000]",
    ]  # fmt: skip
    compare.run(config("comparison", *options))
    file = Path(config("comparison").output, "report", compare.JSON_FILE)
    before = json.loads(file.read_text())["variants"]["lm"]
    request.getfixturevalue("no_weights_here")
    compare.run(config("comparison", *options, "launcher=ray", "compare.repeats=2"))  # the model is there
    after = json.loads(file.read_text())["variants"]["lm"]
    for speeds in ("speeds", "drafted"):
        assert before.pop(speeds) != after.pop(speeds)
    assert after == before
