"""Where the weights of a task come from."""

from types import SimpleNamespace

import pytest
import torch
from transformers import AutoModelForCausalLM

import pipeline.training.task
from pipeline.config import load_config
from pipeline.errors import ConfigError, ModelError
from pipeline.models.trunk import token_vectors
from pipeline.training.task import build_task


@pytest.fixture
def build(monkeypatch):
    """Build the task of a job on fake shards of 50 tokens."""
    tokenizer = SimpleNamespace(vocab_size=50, bos_id=1, eos_id=2)
    shards = SimpleNamespace(
        finish_verifying=lambda: None,
        folder="shards",
        manifest=SimpleNamespace(
            tokenizer_digest="0" * 64,
            max_sentence_tokens=12,
            segmenter=None,
            totals={"train": SimpleNamespace(tokens=100), "dev": SimpleNamespace(tokens=0)},
        ),
        tokenizer=lambda: tokenizer,
        records=lambda split: [],
    )
    monkeypatch.setattr(pipeline.training.task, "open_shards", lambda path, stream: shards)
    return lambda job, *overrides: build_task(job, load_config(None, ["shards=shards", *overrides]))


@pytest.fixture
def pretrained(trunk_config, tmp_path):
    """A model that knows a few more tokens than the tokenizer, as OPT does."""
    model = AutoModelForCausalLM.from_config(trunk_config("opt-projected", vocab_size=56))
    model.save_pretrained(tmp_path / "pretrained")
    return str(tmp_path / "pretrained"), model


def test_a_pretrained_trunk_without_a_token_level_model(build, pretrained, tmp_path):
    path, model = pretrained
    task = build("train-vae", f"trunk.path={path}", "vae.tie_word_embeddings=false")
    assert torch.equal(task.model.embedding.weight, token_vectors(model)[:50])
    assert task.model.head.weight is not task.model.embedding.weight
    task.model.save_pretrained(tmp_path / "vae")
    options = [f"trunk.path={path}", f"models.vae={tmp_path / 'vae'}", "sllm.context_sentences=8"]
    sllm = build("train-sllm", *options, "sllm.trunk_from=path", "sllm.train_trunk=none").model
    layer = "layers.1.self_attn.q_proj.weight"
    assert torch.equal(sllm.trunk.decoder.get_parameter(layer), model.model.decoder.get_parameter(layer))
    assert not any(parameter.requires_grad for parameter in sllm.trunk.parameters())
    fresh = build("train-sllm", *options, "sllm.trunk_from=config").model
    assert not torch.equal(fresh.trunk.decoder.get_parameter(layer), model.model.decoder.get_parameter(layer))


def test_what_is_missing_is_named(build, pretrained, trunk_config, tmp_path):
    path, _ = pretrained
    build("train-vae", f"trunk.path={path}").model.save_pretrained(tmp_path / "vae")
    for source, key in (("lm", "models.lm=FOLDER"), ("path", "trunk.path=MODEL")):
        with pytest.raises(ConfigError, match=f"trunk_from={source} needs {key}"):
            build("train-sllm", f"models.vae={tmp_path / 'vae'}", f"sllm.trunk_from={source}")
    small = AutoModelForCausalLM.from_config(trunk_config("llama", vocab_size=40))
    small.save_pretrained(tmp_path / "small")
    with pytest.raises(ModelError, match="has a vocabulary of 40, the shards' tokenizer 50"):
        build("train-lm", f"trunk.path={tmp_path / 'small'}")
