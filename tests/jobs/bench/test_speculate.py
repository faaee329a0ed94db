"""The benchmark of speculation, with small models that are not trained."""

import json

import numpy as np
import pytest
from typer.testing import CliRunner

from jobs.bench.generation import speculate as bench
from jobs.cli import app
from pipeline.config import load_config
from pipeline.models.build import build_lm, build_sllm, untrained


class Documents:
    """Two documents of 30 sentences of 4 tokens."""

    def __init__(self):
        self.num_documents = 2
        self.sentence_starts_N1, self.token_starts_N1 = [0, 30, 60], [0, 120, 240]
        self.sentence_lengths = np.full(60, 4)
        self._tokens = np.random.default_rng(0).integers(3, 50, 240)

    def tokens(self, start, end):
        return self._tokens[start:end]


@pytest.fixture
def shards(monkeypatch):
    class Shards:
        def documents(self, split):
            return Documents()

    monkeypatch.setattr(bench, "open_shards", lambda folder, config: Shards())


def run(folder, *options):
    arguments = [
        "bench",
        "speculate",
        str(folder),
        "shards",
        "--tokens",
        "6",
        "--documents",
        "1",
        "--prompt",
        "9",
    ]
    result = CliRunner().invoke(app, [*arguments, *options, "--json"])
    assert result.exit_code == 0, result.output
    return json.loads(result.stdout)


@pytest.fixture(scope="module")
def config():
    trunk = "{model_type: llama, hidden_size: 32, intermediate_size: 64, num_hidden_layers: 2, num_attention_heads: 2}"
    small = [f"trunk.config={trunk}", "tokenizer.vocab_size=300", "vae.num_heads=2", "vae.num_layers=2"]
    return untrained(load_config(None, small))


@pytest.mark.parametrize("weights", ["fp32", "bf16"])
def test_a_token_level_model(config, tmp_path, shards, weights):
    build_lm(config, None).model.save_pretrained(tmp_path)
    rows = run(tmp_path, "--weights", weights)
    assert [row["drafts"] for row in rows] == ["none", "prompt lookup", "first 1 of 2 layers"] * 2
    assert all(row["over_without"] == 1 for row in rows if row["drafts"] == "none")
    assert all(1 <= row["tokens_per_pass"] <= 5 for row in rows)


def test_a_sentence_level_model(config, tmp_path, shards):
    build_sllm(config, None).save_pretrained(tmp_path)
    rows = run(tmp_path)
    assert [row["drafts"] for row in rows] == ["none", "first 1 of 2 decoder layers"] * 2
    assert all(row["tokens_per_second"] > 0 for row in rows)


def test_too_short_documents_are_an_error(config, tmp_path, shards):
    build_lm(config, None).model.save_pretrained(tmp_path)
    result = CliRunner().invoke(app, ["bench", "speculate", str(tmp_path), "shards", "--prompt", "500"])
    assert result.exit_code == 2 and "--prompt" in result.output
