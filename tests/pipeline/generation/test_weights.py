"""Weights for generation: bf16 in another layout gives what bf16 gives, int8 is within its rounding."""

import pytest
import torch
from torch import nn

from pipeline.config import GenerateConfig, load_config
from pipeline.generation import text
from pipeline.generation.generate import generate
from pipeline.generation.single_query import NAME
from pipeline.generation.weights import Int8Linear, PackedLinear, prepare_weights
from pipeline.models.blocks import Head

pytestmark = pytest.mark.skipif(
    not torch.ops.mkldnn._is_mkldnn_bf16_supported(), reason="this CPU has no bf16 products"
)


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("shape", [(1, 64), (5, 64), (2, 3, 64), (0, 64)])
def test_a_packed_matrix_multiplies_as_a_plain_one(shape, bias):
    torch.manual_seed(0)
    linear = nn.Linear(64, 96, bias=bias).bfloat16()
    x = torch.randn(shape).bfloat16()
    assert torch.allclose(PackedLinear(linear)(x), linear(x), rtol=1e-2, atol=1e-2)


@pytest.mark.parametrize("shape", [(1, 64), (5, 64), (2, 3, 64)])
def test_int8_is_within_the_rounding_of_its_rows(shape):
    torch.manual_seed(0)
    linear = nn.Linear(64, 96).bfloat16()
    with torch.no_grad():
        linear.weight[::2] *= 100  # each row has a scale of its own
        linear.weight[7] = 0
    x = torch.randn(shape).bfloat16()
    steps = linear.weight.float().abs().amax(1) / 127
    allowed = 0.6 * steps * x.float().abs().sum(-1, keepdim=True) + 0.02 * linear(x).float().abs() + 0.02
    assert ((Int8Linear(linear)(x).float() - linear(x).float()).abs() <= allowed).all()


@pytest.mark.parametrize(
    "vae", [{}, {"encoder_embedding": "output", "output_latent_scale": 0.5}], ids=["", "head"]
)
@pytest.mark.parametrize("weights", ["bf16", "int8"])
def test_a_model_generates_with_them(sllm, weights, vae):
    model = sllm(**vae).float()
    prepare_weights(model, weights)
    kinds = {type(module) for module in model.modules()}
    assert {"bf16": PackedLinear, "int8": Int8Linear}[weights] in kinds
    sentences = list(generate(model, [[5, 6, 7]], GenerateConfig(max_sentences=2, max_sentence_tokens=4)))
    assert sentences and all(sentence.token_ids for sentence in sentences)
    assert model.trunk.rotary_emb.inv_freq.dtype == torch.float32


def test_fp32_is_left_as_it_is(sllm):
    model = sllm().float()
    before = model.state_dict()
    prepare_weights(model, "fp32")
    assert model.state_dict().keys() == before.keys()


@pytest.mark.parametrize("weights", ["fp32", "bf16", "int8"])
def test_generate_weights_is_what_a_model_generates_with(sllm, monkeypatch, weights):
    model = sllm().float()
    replaced = {"saved_model": model, "local_model": "folder", "encode_prompt": []}
    for name, value in replaced.items():
        monkeypatch.setattr(text, name, lambda *_, value=value: value)
    monkeypatch.setattr(text.Tokenizer, "load", lambda path: None)
    config = load_config(None, ["models.sllm=folder", f"generate.weights={weights}"])
    assert next(text.continued(config, may_use_gpu=False)) == "CPU"
    assert type(model.vae.head) is {"fp32": Head, "bf16": PackedLinear, "int8": Int8Linear}[weights]
    assert model.trunk.config._attn_implementation == ("sdpa" if weights == "fp32" else NAME)
