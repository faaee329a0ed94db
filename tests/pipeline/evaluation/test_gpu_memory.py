"""Memory on paper against what autograd really keeps, and against the counts of the ZeRO paper."""

import numpy as np
import pytest
import torch
from transformers import AutoModelForCausalLM

from pipeline.evaluation.flops import Workload
from pipeline.evaluation.gpu_memory import activation_bytes, training_memory
from pipeline.models.token_lm import TokenLm
from pipeline.stream.batches import SentenceBatch, TokenBatch


def kept_bytes(module, batch):
    """Bytes of the tensors, but for weights, that a forward pass keeps for the backward pass, each once."""
    own = {p.untyped_storage().data_ptr() for p in [*module.parameters(), *module.buffers()]}
    kept = {}

    def keep(tensor):
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in own and tensor.is_floating_point():
            kept[storage.data_ptr()] = (storage.nbytes(), tensor)
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        objective = module(batch)["objective"]
    del objective
    return sum(size for size, _ in kept.values())


@pytest.mark.parametrize("trunk", ["opt", "llama", "gpt2"])
def test_activations_of_a_token_level_model_within_a_factor_of_two(trunk_config, trunk):
    shape = {"hidden_size": 64, "num_attention_heads": 2, "num_hidden_layers": 4}
    wide = {
        "opt": {"ffn_dim": 256, "word_embed_proj_dim": 64},
        "llama": {"intermediate_size": 172},
        "gpt2": {"n_inner": 256},
    }
    model = TokenLm(AutoModelForCausalLM.from_config(trunk_config(trunk, **shape, **wide[trunk]))).train()
    estimate = activation_bytes(model, Workload.of_tokens([47] * 8), "fp32")
    found = kept_bytes(model, TokenBatch.pack(np.tile(np.arange(3, 49), 8), [46] * 8, bos_id=1, eos_id=2))
    assert (
        0.45 < estimate / found < 1.7
    )  # families differ in what they keep: GPT-2's GELU is of many small steps


def test_activations_of_an_sllm(sllm):
    model = sllm("llama").float().train()
    lengths, sentences = [12] * 60, [15] * 4
    tokens = np.random.default_rng(0).integers(3, 50, sum(lengths))
    batch = SentenceBatch.pack(tokens, lengths, sentences, bos_id=1, eos_id=2)
    estimate = activation_bytes(model, Workload.of_sentences(lengths, sentences), "fp32")
    assert estimate == pytest.approx(kept_bytes(model, batch), rel=0.35)


def test_zero_divides_what_its_stage_says():
    module = torch.nn.Linear(1000, 1000, bias=False)
    million = 1e6
    for stage, expected in enumerate([(2, 2, 12), (2, 6, 3), (2, 1, 3), (0.5, 1, 3)]):
        found = training_memory(module, stage, 4, "bf16")
        assert (found.weights, found.gradients, found.optimizer) == tuple(million * x for x in expected)
    plain = training_memory(module, 0, 1, "fp32", activations=5.0)
    assert plain.total == 16 * million + 5
    module.requires_grad_(False)
    assert training_memory(module, 0, 1, "bf16").total == 2 * million


def test_plain_training_keeps_what_is_said(sllm):
    from pipeline.config import TrainConfig
    from pipeline.training.engine import PlainEngine

    model = sllm(max_sentence_tokens=20).float()
    engine = PlainEngine(model, TrainConfig())
    batch = SentenceBatch.pack(np.arange(3, 40), [7, 20, 10], [3], bos_id=1, eos_id=2)
    engine.backward(engine.forward(batch)["objective"])
    gradients = sum(p.grad.nbytes for p in model.parameters())
    engine.step(1e-3)
    moments = [x for state in engine.optimizer.state.values() for x in state.values() if x.numel() > 1]
    said = training_memory(model, 0, 1, "fp32")
    # The stop head's bias is one number, as Adam's step counts are.
    assert (gradients, sum(x.nbytes for x in moments) + 8) == (said.gradients, said.optimizer)
