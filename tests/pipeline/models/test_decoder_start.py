"""A decoder from layers of a language model: with all of them it is that model. What a graft derives from a model."""

import pytest
import torch
from transformers import AutoModelForCausalLM

from pipeline.config import load_config, override
from pipeline.errors import ModelError
from pipeline.models.attention_patterns import SlidingWindow
from pipeline.models.blocks import LatentConditioning
from pipeline.models.decoder_start import start_decoder
from pipeline.models.grafting import grafting_options
from pipeline.models.sentence_vae import SentenceVae, SentenceVaeConfig
from tests.pipeline.gguf_files import tiny_llama

VOCAB = 60
SHAPE = {"vocab_size": VOCAB, "hidden_size": 64, "num_layers": 2, "num_heads": 4, "ffn_multiplier": 1.5,
         "block": "llama", "decoder_window": 64, "conditioning": "prefix", "rope_theta": 5000.0}  # fmt: skip


def vae_of(model, layers=(0, 1), **options):
    vae = SentenceVae(SentenceVaeConfig(**{**SHAPE, **options})).double().eval()
    with torch.no_grad():
        vae.embedding.weight.copy_(model.get_input_embeddings().weight)
    start_decoder(vae, model, layers)
    return vae


def logits(vae, ids_T):
    nothing = LatentConditioning(None, (None,) * len(vae.decoder), None)
    zeros_T = torch.zeros_like(ids_T)
    pattern = SlidingWindow(zeros_T, vae.config.decoder_window)
    return vae.head(vae.decode(ids_T, zeros_T, zeros_T, nothing, pattern, 64))


@pytest.mark.parametrize("tied", [True, False])
def test_all_layers_without_a_latent_are_the_language_model(tied):
    model = tiny_llama(VOCAB, tie_word_embeddings=tied).double().eval()
    with torch.no_grad():  # no norm is one: each weight counts
        for parameter in model.parameters():
            parameter.normal_(std=0.2)
    ids_T = torch.randint(VOCAB, (40,), generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        found = logits(vae_of(model, tie_word_embeddings=tied), ids_T)
        torch.testing.assert_close(found, model(ids_T[None]).logits[0], atol=5e-4, rtol=1e-3)
        other = logits(vae_of(model, [1, 0], tie_word_embeddings=tied), ids_T)
        assert (other - found).abs().max() > 0.1  # the order counts


def test_latents_have_the_scale_of_the_token_vectors():
    model = tiny_llama(VOCAB)
    vae = vae_of(model.double())
    latents_SH = vae.latent_norm(torch.randn(5, 64, dtype=torch.float64))
    scale = model.get_input_embeddings().weight.square().mean().sqrt()
    torch.testing.assert_close(latents_SH.square().mean().sqrt(), scale, rtol=0.02, atol=0)


@pytest.mark.parametrize(
    ("layers", "options", "message"),
    [
        ([0, 1, 1], {}, "must name vae.num_layers=2 layers of the model's 2"),
        ([0, 2], {}, "must name vae.num_layers=2"),
        ([0, 1], {"num_heads": 2}, "needs vae.num_heads=4, which is 2"),
        ([0, 1], {"rope_theta": 1e4}, r"needs vae.rope_theta=5000.0"),
        ([0, 1], {"ffn_multiplier": 2.0}, r"needs vae.ffn_multiplier=1.5"),
        ([0, 1], {"tie_word_embeddings": False}, "needs vae.tie_word_embeddings=True"),
        ([0, 1], {"block": "paper", "decoder_window": 0}, "set vae.decoder_from_lm=null"),
    ],
)
def test_what_does_not_fit_is_said(layers, options, message):
    with pytest.raises(ModelError, match=message):
        vae_of(tiny_llama(VOCAB), layers, **options)


def test_layers_of_another_family_are_refused(trunk_config):
    model = AutoModelForCausalLM.from_config(trunk_config("gpt2", hidden_size=64))
    with pytest.raises(ModelError, match=r"not those of this 'gpt2'.*set vae\.decoder_from_lm=null"):
        start_decoder(SentenceVae(SentenceVaeConfig(**SHAPE)), model, [0, 1])


@pytest.mark.parametrize("family", ["llama", "mistral", "gpt2", "opt", "qwen2"])
def test_the_options_of_a_graft_follow_from_the_model(family, trunk_config, tmp_path):
    AutoModelForCausalLM.from_config(trunk_config(family, num_hidden_layers=5)).save_pretrained(tmp_path)
    config = load_config(None, [f"trunk.path={tmp_path}", "graft.decoder_layers=3", "vae.block=llama"])
    options = grafting_options(config)
    assert (options["vae.num_heads"], options["vae.num_layers"]) == (4, 3)
    assert options["vae.decoder_from_lm"] == ([0, 1, 4] if family in ("llama", "mistral") else None)
    if family == "llama":
        with pytest.raises(ModelError, match="has 5: lower it"):
            grafting_options(override(config, {"graft.decoder_layers": 6}))
