"""Which drafts are measured for which design, and that the fastest is kept."""

import pytest
import torch
from transformers import AutoModelForCausalLM

from pipeline.evaluation import drafted_speed
from pipeline.evaluation.drafted_speed import DraftedSpeed, drafted_speeds
from pipeline.evaluation.generation_speed import Speed
from pipeline.models.token_lm import TokenLm


@pytest.fixture
def models(trunk_config, sllm):
    def token_lm(layers):
        torch.manual_seed(layers)
        config = trunk_config("llama", num_hidden_layers=layers)
        return TokenLm(AutoModelForCausalLM.from_config(config)).eval()

    return {
        "large": token_lm(3),
        "small": token_lm(1),
        "deep": sllm(num_layers=2, block="llama", decoder_window=9).requires_grad_(False),
        "shallow": sllm(num_layers=1, block="llama", decoder_window=9).requires_grad_(False),
    }


def test_the_fastest_drafts_of_each_design_are_kept(models, monkeypatch):
    asked = {}

    def measured(generators, batch_sizes, repeats):
        asked.update({name: generate(1, 0) for name, generate in generators.items()})
        return {name: (Speed(1, float(len(name))),) for name in generators}

    monkeypatch.setattr(drafted_speed, "measure_speeds", measured)
    context = {"large": 12, "small": 12}
    found = drafted_speeds(models, context, 20, (1, 2), 1)
    assert set(asked) == {
        "large prompt lookup",
        "large small",
        "small prompt lookup",
        "deep the decoder's first layer",
    }
    assert all(20 <= tokens <= 24 for tokens in asked.values())
    assert found["large"] == DraftedSpeed("prompt lookup", 19.0)
    assert found["deep"].drafts == "the decoder's first layer" and set(found) == {"large", "small", "deep"}


def test_without_a_second_token_level_model_prompt_lookup_alone_drafts(models):
    found = drafted_speeds({"small": models["small"]}, {"small": 12}, 4, (1, 2), 1)
    assert found["small"].drafts == "prompt lookup" and found["small"].tokens_per_second > 0
