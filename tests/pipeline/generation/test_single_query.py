"""Attention of a single query equals PyTorch's, also where heads share keys, under masks, and in whole models."""

import pytest
import torch
from torch.nn import functional as F
from transformers import AutoModelForCausalLM

from pipeline.generation.sampling import Sampler
from pipeline.generation.single_query import NAME, single_query, use_single_query
from pipeline.generation.token_lm import next_tokens
from pipeline.models.token_lm import TokenLm


@pytest.mark.parametrize("many", [2, 100])
@pytest.mark.parametrize("mask", ["none", "bool", "additive"])
@pytest.mark.parametrize("groups", [1, 2, 4])
def test_it_is_the_attention_of_pytorch(groups, mask, many, monkeypatch):
    monkeypatch.setattr("pipeline.generation.single_query.MANY_KEYS", many)
    torch.manual_seed(0)
    q = torch.randn(3, 4, 1, 8)
    room = torch.randn(2, 3, groups, 20, 8)
    k, v = room[:, :, :, 4:17]  # a part of the cache
    seen = torch.rand(3, 1, 1, 13) < 0.7
    seen[..., 0] = True
    given = {"none": None, "bool": seen, "additive": torch.zeros(3, 1, 1, 13).masked_fill(~seen, -torch.inf)}[
        mask
    ]
    expected = F.scaled_dot_product_attention(q, k, v, attn_mask=given, enable_gqa=True)
    assert torch.allclose(single_query(q, k, v, given, 8**-0.5), expected, atol=1e-6)
    copied = single_query(q, k.contiguous(), v.contiguous(), given, 8**-0.5)
    assert torch.allclose(copied, expected, atol=1e-6)


@pytest.mark.parametrize("name", ["llama", "qwen3", "mistral", "gpt_neox", "opt", "gpt2"])
def test_a_model_generates_the_same_with_it(trunk_config, name):
    torch.manual_seed(0)
    config = trunk_config(name, tie_word_embeddings=False)
    model = TokenLm(AutoModelForCausalLM.from_config(config, attn_implementation="sdpa")).eval()
    texts = []
    for _ in range(2):
        given = []

        def sampler(logits_BV, given=given):
            given.append(logits_BV.clone())
            return Sampler()(logits_BV)

        with torch.inference_mode():
            steps = next_tokens(model, torch.tensor([[1, 5, 6], [7, 8, 9]]), 9, [1], sampler)
            texts.append([next(steps) for _ in range(12)] and torch.stack(given))
        use_single_query(model.model)
    assert model.model.config._attn_implementation == NAME
    assert torch.allclose(*texts, atol=1e-4)
