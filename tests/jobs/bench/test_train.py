"""The benchmark of training steps, tiny; and that the reference's step is the described one."""

import json

import numpy as np
import pytest
import torch
from typer.testing import CliRunner

from jobs.bench.reference_step import SENTENCES, TOKENS, ReferenceStep, passages_of
from jobs.bench.train import RandomDocuments
from jobs.cli import app
from pipeline.config import load_config
from pipeline.evaluation.flops import flops_of
from pipeline.models.build import build_sllm, untrained
from pipeline.stream.batches import SentenceBatch
from pipeline.stream.windows import SentenceWindows

TINY = [
    "trunk.config={model_type: llama, hidden_size: 32, intermediate_size: 64, num_hidden_layers: 1, "
    "num_attention_heads: 2}",
    "tokenizer.vocab_size=300",
    "vae.num_heads=2",
    *(f"{model}.train.micro_batch_tokens=600" for model in ("lm", "vae", "sllm")),
]


def test_every_model_beside_the_peak_and_the_reference():
    result = CliRunner().invoke(app, ["bench", "train", *TINY, "--steps", "1", "--json"])
    assert result.exit_code == 0, result.output
    report = json.loads(result.stdout)
    assert [row["model"] for row in report["models"]] == ["lm", "vae", "sllm"]
    for row in report["models"]:
        assert 0 < row["share_of_peak"] < 1
        expected = row["share_of_peak"] * report["peak_flops_per_second"]
        assert row["flops_per_second"] == pytest.approx(expected)
    sllm = report["models"][-1]["tokens_per_second"]
    assert report["sllm_over_reference"] == pytest.approx(sllm / report["reference_tokens_per_second"])


def test_the_reference_computes_padding():
    """One word costs it as much as a full passage."""
    model = build_sllm(untrained(load_config(None, TINY)), None)
    step = ReferenceStep(model)
    flops = []
    for lengths in ([1], [TOKENS] * SENTENCES):
        batch = SentenceBatch.pack(np.full(sum(lengths), 3), lengths, [len(lengths)], bos_id=1, eos_id=2)
        passages, kept = passages_of(batch)
        assert kept == sum(lengths)
        flops.append(flops_of(lambda passages=passages: step(passages)))
        assert torch.isfinite(step(passages))
    assert flops[0] == flops[1]


def test_random_documents_have_the_lengths_of_english():
    documents = RandomDocuments(300, 64)
    assert 15 < documents.sentence_lengths.mean() < 21
    source = SentenceWindows(documents, 64, 1, 2)
    assert source.tokens_W.sum() == documents.token_starts_N1[-1]
