"""Speculation changes how many tokens a pass gives, not which: the same text when greedy, the same distribution when
sampled."""

import itertools

import pytest
import torch
from transformers import AutoModelForCausalLM

from pipeline.generation.sampling import Sampler
from pipeline.generation.speculation import DraftModel, PromptLookup, accepted, first_layers, speculate
from pipeline.generation.token_lm import next_tokens
from pipeline.models.token_lm import TokenLm

BOS, EOS = 1, 2


@pytest.fixture
def token_lm(trunk_config):
    def build(name, seed=0, **options):
        torch.manual_seed(seed)
        config = trunk_config(name, tie_word_embeddings=False, **options)
        model = AutoModelForCausalLM.from_config(config, attn_implementation="sdpa")
        with torch.no_grad():  # else the layers hardly change the logits
            for parameter in model.parameters():
                parameter *= 4 if parameter.dim() > 1 else 1
        return TokenLm(model).double().eval()

    return build


class Wrong:
    """Drafts tokens that are nearly always rejected."""

    def draft(self, tokens, count, sampler):
        return [(7 * len(tokens)) % 40 + 3] * count, None


def drafters(model, small, context):
    return {
        "lookup": PromptLookup(),
        "first layer": DraftModel(first_layers(model, 1), context, [BOS]),
        "model": DraftModel(small, context, [BOS]),
        "itself": DraftModel(model, context, [BOS]),
        "wrong": Wrong(),
    }


@pytest.mark.parametrize("context", [12, 100])
@pytest.mark.parametrize("name", ["llama", "qwen3", "mistral", "gpt_neox", "opt", "gpt2"])
def test_greedy_text_is_the_same(token_lm, name, context):
    model, small = token_lm(name), token_lm(name, seed=1, num_hidden_layers=1)
    prompt = [BOS, 5, 6, 7, 5, 6]
    steps = next_tokens(model, torch.tensor([prompt]), context, [BOS], Sampler())
    with torch.inference_mode():
        expected = [int(next(steps)) for _ in range(60)]
    for kind, drafter in drafters(model, small, context).items():
        found, passes = [], 0
        for tokens in speculate(model, prompt, context, [BOS], Sampler(), drafter, 4):
            found, passes = found + tokens, passes + 1
            if len(found) >= 60:
                break
        assert found[:60] == expected, kind
        if kind == "itself" and context == 100:
            assert passes <= 14  # 5 tokens per pass, less for rounding
    assert len(set(expected)) > 3


@pytest.mark.parametrize("certain", [True, False])
def test_what_is_accepted_is_distributed_as_the_model_says(certain):
    torch.manual_seed(0)
    p_3V, q_2V = torch.rand(3, 5).softmax(-1), (3 * torch.rand(2, 5)).softmax(-1)
    p_3V[1, 2] = 0
    p_3V = p_3V / p_3V.sum(-1, keepdim=True)
    sampler, count = Sampler(1.0, seed=1), 20_000
    first, second = torch.zeros(5), torch.zeros(5)
    for _ in range(count):
        drafts = [3, 0] if certain else sampler.draw(q_2V).tolist()
        tokens = accepted(p_3V, drafts, None if certain else q_2V, sampler)
        first[tokens[0]] += 1
        if len(tokens) > 1:
            second[tokens[1]] += 1
    for counts, p_V in ((first, p_3V[0]), (second, p_3V[1])):
        expected = p_V * counts.sum()
        seen = expected > 0
        chi_square = ((counts - expected)[seen].square() / expected[seen]).sum()
        assert counts[~seen].sum() == 0
        assert chi_square < 23.5  # 4 degrees of freedom: 1 in 10,000


@pytest.mark.parametrize("kind", ["lookup", "first layer", "wrong"])
def test_sampled_text_has_the_distribution_of_the_model(token_lm, kind):
    """Pairs of tokens after a prompt, against their exact probabilities."""
    model = token_lm("llama", vocab_size=6)
    prompt, count = [BOS, 4, 5, 4], 500
    counts = torch.zeros(6, 6, dtype=torch.float64)
    sampler = Sampler(0.8, 0.95, seed=3)
    for _ in range(count):
        drafter = drafters(model, model, 50)[kind] if kind != "wrong" else Wrong()
        if kind == "wrong":
            drafter.draft = lambda tokens, number, sampler: ([3] * number, None)
        passes = speculate(model, prompt, 50, [BOS], sampler, drafter, 2)
        found = list(itertools.islice(itertools.chain.from_iterable(passes), 2))
        counts[found[0], found[1]] += 1
    expected = torch.zeros_like(counts)
    for first in range(6):
        logits = model.model(torch.tensor([[*prompt, first]])).logits[0, -2:].detach()
        logits[:, BOS] = -torch.inf
        p_2V = sampler.probabilities(logits)
        expected[first] = count * p_2V[0, first] * p_2V[1]
    likely = expected >= 5
    rest = expected[~likely].sum() + 1e-9
    chi_square = ((counts - expected)[likely].square() / expected[likely]).sum()
    chi_square += (counts[~likely].sum() - rest).square() / max(rest, 5.0)
    assert likely.sum() >= 4
    freedom = int(likely.sum())
    assert chi_square < freedom + 4 * (2 * freedom) ** 0.5 + 5  # far beyond 1 in 10,000


def test_lookup_drafts_what_followed_the_longest_match():
    lookup = PromptLookup()
    assert lookup.draft([5, 6, 7, 8, 9, 7, 8], 3, Sampler()) == ([9, 7, 8], None)
    assert lookup.draft([5, 6, 7, 8, 9, 7, 8, 5, 6, 7], 2, Sampler()) == ([8, 9], None)
    assert PromptLookup().draft([5, 6], 3, Sampler()) == ([], None)


def test_first_layers_share_the_weights(token_lm):
    model = token_lm("llama")
    small = first_layers(model, 1)
    assert {id(one) for one in small.parameters()} < {id(one) for one in model.parameters()}
    assert model.model.config.num_hidden_layers == 2 and len(model.model.model.layers) == 2
