"""What a token-level model generates with a sliding cache is what it would generate without any cache."""

import pytest
import torch
from transformers import AutoModelForCausalLM

from pipeline.evaluation.flops import flops_of, generation_flops, long_generation_flops, model_parts
from pipeline.evaluation.workload import Workload
from pipeline.generation.sampling import Sampler
from pipeline.generation.token_lm import generate_tokens
from pipeline.models.token_lm import TokenLm, learned_positions

BOS, EOS = 1, 2
ROTARY, LEARNED = ["llama", "qwen2", "qwen3", "mistral", "gpt_neox"], ["opt", "opt-projected", "gpt2"]


@pytest.fixture
def token_lm(trunk_config):
    def build(name, **options):
        torch.manual_seed(0)
        config = trunk_config(name, **options)
        return TokenLm(AutoModelForCausalLM.from_config(config, attn_implementation="sdpa")).double().eval()

    return build


def under_a_mask(model, tokens, size):
    """Logits after the last token, each token of the text seeing itself and `size` - 1 before it: no cache."""
    positions = torch.arange(len(tokens))
    distance = positions[:, None] - positions
    sees = (distance >= 0) & (distance < size)
    mask = torch.zeros(1, 1, *sees.shape, dtype=torch.float64).masked_fill(~sees, -torch.inf)
    with torch.no_grad():
        logits = model.model(input_ids=torch.tensor([tokens]), attention_mask=mask, use_cache=False).logits
    return logits[0, -1]


@pytest.mark.parametrize("name", ROTARY)
@pytest.mark.parametrize("size", [2, 9, 22])
def test_a_sliding_cache_gives_what_a_window_without_a_cache_gives(token_lm, name, size):
    model, given = token_lm(name), []

    def sampler(logits_BV):
        given.append(logits_BV.clone())
        return Sampler(1.0, seed=len(given))(logits_BV)

    generated = generate_tokens(model, 2, 24, size, BOS, EOS, sampler)
    for row in range(2):
        tokens = [BOS, *generated[row].tolist()]
        for n in (0, size - 1, size, size + 1, 23):
            expected = under_a_mask(model, tokens[: n + 1], size)
            expected[[BOS, EOS]] = -torch.inf
            assert torch.allclose(given[n][row], expected, atol=1e-6), n  # rotary angles are fp32


@pytest.mark.parametrize("name", LEARNED)
def test_learned_positions_do_not_slide_and_the_newer_half_is_computed_again(token_lm, name):
    model, given = token_lm(name, max_position_embeddings=16), []

    def sampler(logits_BV):
        given.append(logits_BV.clone())
        return logits_BV.argmax(-1)

    tokens = [BOS, *generate_tokens(model, 1, 50, 16, BOS, EOS, sampler)[0].tolist()]
    start = 0
    for n in range(50):
        if n + 1 - start > 16:
            start = n + 1 - 8
        with torch.no_grad():
            expected = model.model(input_ids=torch.tensor([tokens[start : n + 1]])).logits[0, -1]
        expected[[BOS, EOS]] = -torch.inf
        assert torch.allclose(given[n][0], expected, atol=1e-9), n


def test_which_positions_are_learned(token_lm):
    assert all(learned_positions(token_lm(name).model) is None for name in ROTARY)
    assert all(learned_positions(token_lm(name).model) == 128 for name in LEARNED)


@pytest.mark.parametrize("name", ["llama", "qwen3", "gpt_neox"])
def test_flops_of_generating_a_document_at_a_context_of_64(token_lm, name):
    model = token_lm(name).float()
    counted = flops_of(lambda: generate_tokens(model, 1, 256, 64, BOS, EOS, Sampler(1.0)))
    on_paper = sum(generation_flops(model, 1.0, min(n, 63)) for n in range(256))
    assert on_paper == pytest.approx(counted, rel=1e-3)
    # Once the context is full each token costs the same.
    more = flops_of(lambda: generate_tokens(model, 1, 356, 64, BOS, EOS, Sampler(1.0)))
    assert long_generation_flops(model, 1.0, 64) == pytest.approx((more - counted) / 100, rel=1e-3)


@pytest.mark.parametrize("name", ["opt", "gpt2"])
def test_flops_of_computing_the_context_again_where_positions_are_learned(token_lm, name):
    model = token_lm(name).float()
    cycles = 10
    _, tokens = Workload.generated_tokens_until_full(64)
    assert tokens == 33
    short, long = (
        flops_of(lambda n=n: generate_tokens(model, 1, n, 64, BOS, EOS, Sampler(1.0)))
        for n in (64, 64 + cycles * tokens)
    )
    # The kernel counts the keys after a causal query too.
    width = model_parts(model)[0].attention_width
    after = 4 * width * (32 * 31 / 2) / tokens
    assert long_generation_flops(model, 1.0, 64) + after == pytest.approx(
        (long - short) / (cycles * tokens), rel=1e-3
    )
