"""`sllm plan` on a preset of the paper, and on our own."""

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from jobs.cli import app

PRESETS = Path(__file__).parents[2] / "jobs" / "presets"


def invoke(*arguments):
    result = CliRunner().invoke(app, ["plan", *map(str, arguments)])
    return result, json.loads(result.stdout) if "--json" in arguments and result.exit_code == 0 else None


def test_the_papers_largest_on_eight_gpus():
    result, report = invoke(PRESETS / "paper" / "opt-1.3b-h4.yaml", "--gpus", 8, "--json")
    assert result.exit_code == 0, result.output
    lm, sllm = report["models"]["lm"], report["models"]["sllm"]
    assert lm["parameters"] == 1_315_758_080
    # 6 per parameter, except for the embedding of positions, and the attention (arXiv 2001.08361, section 2.1).
    assert lm["training_flops_per_token"] == pytest.approx(6 * lm["parameters"], rel=0.05)
    stages = [sum(memory.values()) for memory in sllm["memory_per_gpu"].values()]
    assert stages == sorted(stages, reverse=True)
    assert sllm["training_days"] == pytest.approx(
        1_600_000 * 1024 * sllm["training_flops_per_token"] / (8 * 989e12 * 0.4) / 86_400
    )
    assert sllm["generation_flops_per_token"] < lm["generation_flops_per_token"]
    assert sllm["context_bytes_per_token"] < lm["context_bytes_per_token"] / 10


def test_twice_the_gpus_take_half_the_days():
    preset = PRESETS / "demo.yaml"
    one, two = (invoke(preset, "--gpus", n, "--device", "cpu", "--json")[1] for n in (1, 2))
    for name, model in one["models"].items():
        assert two["models"][name]["training_days"] == pytest.approx(model["training_days"] / 2)


def test_the_table_names_each_stage():
    result, _ = invoke(PRESETS / "demo.yaml", "sllm.train_trunk=none", "--peak", "1e14")
    assert result.exit_code == 0
    assert all(f"ZeRO {stage}" in result.stdout for stage in range(4))


def test_an_unknown_device_is_named():
    result, _ = invoke(PRESETS / "demo.yaml", "--device", "h900")
    assert result.exit_code == 2 and "known are h200, h100" in result.stderr
