"""The benchmark of generation, tiny: forced lengths, turns, formulas beside what is measured."""

import itertools
import json

import pytest
import torch
from typer.testing import CliRunner

from jobs.bench.generation.contenders import SentenceLevel, random_model, sllm, token_lm
from jobs.cli import app
from pipeline.config import load_config
from pipeline.evaluation.flops import Workload, forward_flops, model_parts
from pipeline.evaluation.generation_reads import reads_per_token
from pipeline.models.build import untrained

pytestmark = pytest.mark.skipif(
    not torch.ops.mkldnn._is_mkldnn_bf16_supported(), reason="this CPU has no bf16 products"
)
TINY = [
    "trunk.config={model_type: llama, hidden_size: 32, intermediate_size: 64, num_hidden_layers: 3, "
    "num_attention_heads: 2}",
    "tokenizer.vocab_size=300",
    "vae.num_heads=2",
]


def test_sentence_level_beside_token_level_models(tmp_path):
    plot = tmp_path / "speed.svg"
    options = ["--batch", "1,2", "--context", "40", "--tokens", "8", "--rounds", "1", "--plot", str(plot)]
    result = CliRunner().invoke(app, ["bench", "generate", "demo", *TINY, *options, "--json"])
    assert result.exit_code == 0, result.output
    report = json.loads(result.stdout)
    rows = report["rows"]
    kinds = ["token-level", "token-level", "shallow", "sentence-level"]
    assert [row["kind"] for row in rows] == kinds * 2
    for row in rows:
        assert row["tokens_per_second"] > 0 and row["share_of_bound"] < 1
    for batch in (1, 2):
        same = [row for row in rows if row["batch"] == batch]
        assert max(row["over_token_level"] for row in same[:2]) == 1
    ours = rows[3]
    # 40 tokens need not be whole sentences of mean length.
    measured = ours["measured_context_bytes_per_token"]
    assert measured == pytest.approx(ours["context_bytes_per_token"], rel=1.0)
    own_loop = rows[0]
    assert own_loop["measured_context_bytes_per_token"] == own_loop["context_bytes_per_token"]
    assert plot.read_bytes().startswith(b"<?xml")


@pytest.mark.parametrize("option", [["--batch", "0"], ["--context", "1,x"], ["--plot", "speed.gif"]])
def test_a_bad_option_is_one_line(option):
    result = CliRunner().invoke(app, ["bench", "generate", "demo", *TINY, *option])
    assert result.exit_code == 2 and option[1] in result.output


@pytest.mark.parametrize("weights", ["fp32", "bf16", "int8"])
def test_sentences_have_the_given_lengths(weights):
    config = untrained(load_config(None, TINY))
    model = random_model(sllm(config), weights)
    asked = []

    def lengths():
        for length in itertools.cycle([3, 1, 7]):
            asked.append(length)
            yield length

    timing = SentenceLevel(model, lengths).run(1, 11, 22)
    # A prompt of 3 + 1 + 7, a sentence that is not counted, then at least 22 tokens.
    assert timing.tokens == 1 + 7 + 3 + 1 + 7 + 3
    assert asked[: 3 + 1 + 6] == [3, 1, 7, 3, 1, 7, 3, 1, 7, 3]
    assert timing.first_token < timing.first_sentence


def test_tokens_of_documents_side_by_side_are_those_decoded_in_the_time():
    """Not those of sentences that were complete when it began."""
    model = random_model(sllm(untrained(load_config(None, TINY))), "fp32")
    timing = SentenceLevel(model, lambda: itertools.cycle([5])).run(4, 10, 1)
    # All four end their sentences together, so the next four are decoded whole.
    assert timing.tokens == 4 * 5
    assert timing.seconds > 1e-4


def test_reads_are_half_of_the_flops_of_a_single_document():
    """2 FLOPs per weight, and 4 per query, key and unit of width for two values."""
    config = untrained(load_config(None, TINY))
    with torch.device("meta"):
        lm, model = token_lm(config)(), sllm(config)()
    work = Workload.generated_token(100)
    reads = reads_per_token(lm, 17.0, 4, 4)
    assert 4 * forward_flops(model_parts(lm), work) / 2 == pytest.approx(reads.total(101))
    # A sentence of one token: the decoder takes two passes, all else one.
    parts = {part.name: part.matrix_weights for part in model_parts(model)}
    once = sum(parts.values()) + parts["decoder"] + parts["head"]
    assert reads_per_token(model, 1.0, 2, 2).weights == 2 * once
