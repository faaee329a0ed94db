"""The presets of the paper build at any size, and their parameters are the paper's but for what is named."""

from dataclasses import fields
from pathlib import Path

import pytest
import yaml
from transformers import AutoConfig, AutoModelForCausalLM
from typer.testing import CliRunner

from jobs.cli import app
from pipeline.config import load_config, override
from pipeline.config.models import SllmArchitecture, VaeArchitecture, VaeTraining
from pipeline.errors import ConfigError
from pipeline.evaluation.flops import num_parameters
from pipeline.models.build import build_lm, build_sllm, build_vae, untrained

PRESETS = Path(__file__).parents[3] / "jobs" / "presets" / "paper"
PUBLISHED = {  # arXiv 2408.00655, its table; 1.3B-H4 has none
    "opt-125m-h1": 214e6,
    "opt-125m-h2": 226e6,
    "opt-125m-h4": 250e6,
    "opt-350m-h1": 429e6,
    "opt-350m-h2": 450e6,
    "opt-350m-h4": 492e6,
    "opt-1.3b-h1": 1.61e9,
    "opt-1.3b-h2": 1.69e9,
}
OPT = {"opt-125m": 125_239_296, "opt-350m": 331_196_416, "opt-1.3b": 1_315_758_080}  # as released


def test_there_are_nine():
    names = {f"{trunk}-h{layers}" for trunk in OPT for layers in (1, 2, 4)}
    assert {path.stem for path in PRESETS.glob("*.yaml")} == names


@pytest.mark.parametrize("name", [*sorted(PUBLISHED), "opt-1.3b-h4"])
def test_parameters(name):
    config = load_config(str(PRESETS / f"{name}.yaml"))
    lm, sllm = (build(untrained(config), None, read_weights=False) for build in (build_lm, build_sllm))
    trunk, hidden = sllm.trunk.config, sllm.vae.config.hidden_size
    assert num_parameters(lm) == OPT[name.rpartition("-")[0]]
    assert all(parameter.is_meta for parameter in sllm.parameters())
    # docs/models.md: what the paper counts and we leave out, or the other way round.
    width = config.trunk.config["word_embed_proj_dim"]
    projections = 2 * width * hidden if width != hidden else 0
    papers = (
        num_parameters(sllm)
        + (2 * width - hidden) * trunk.vocab_size + projections  # embeddings of trunk and of VAE, as wide as OPT's
        + config.vae.num_layers * 2 * (hidden**2 + hidden)  # queries and keys over a single vector
        + hidden + 1  # a stop flag of two logits
        - hidden  # our start vector
    )  # fmt: skip
    if name in PUBLISHED:
        digits = 1e6 if PUBLISHED[name] < 1e9 else 1e7
        assert round(papers / digits) == round(PUBLISHED[name] / digits)


def test_a_described_trunk_is_built_without_its_weights(tmp_path):
    small = {
        "hidden_size": 32,
        "ffn_dim": 48,
        "num_hidden_layers": 1,
        "num_attention_heads": 4,
        "vocab_size": 50,
    }
    causal_lm = AutoModelForCausalLM.from_config(
        AutoConfig.for_model("opt", max_position_embeddings=64, **small)
    )
    causal_lm.save_pretrained(tmp_path / "opt")
    described = "trunk.config={model_type: opt, hidden_size: 64, num_attention_heads: 4, vocab_size: 99}"
    on_hub = load_config(
        None, ["trunk.path=someone/not-here", described, "models.lm=not-here", "vae.num_heads=2"]
    )
    trunk = build_lm(untrained(on_hub), None, read_weights=False).model.config
    assert (trunk.hidden_size, trunk.vocab_size, trunk.max_position_embeddings) == (64, 99, 512)
    assert build_vae(untrained(on_hub), None, read_weights=False).config.vocab_size == 99
    here = load_config(
        None, [f"trunk.path={tmp_path}/opt", "lm.context_tokens=32", "sllm.context_sentences=16"]
    )
    assert build_lm(untrained(here), None, read_weights=False).model.config.ffn_dim == 48
    weights = build_sllm(untrained(here), None).state_dict()
    assert weights["trunk.decoder.layers.0.fc1.weight"].equal(
        build_lm(untrained(here), None).state_dict()["model.model.decoder.layers.0.fc1.weight"]
    )


def test_an_option_of_the_section_is_in_the_saved_configuration():
    changed = {
        "vae.num_layers": 3, "vae.encoder_layers": 2, "vae.num_heads": 2, "vae.ffn_multiplier": 3.0,
        "vae.block": "llama", "vae.conditioning": "prefix", "vae.decoder_window": 8, "vae.output_latent_scale": 0.5,
        "vae.encoder_embedding": "output", "vae.norm_first": True, "vae.tie_word_embeddings": False,
        "vae.kl_weight": 0.5, "vae.free_bits": 0.75, "vae.focal_gamma": 1.0,
        "vae.token_dropout": 0.125, "vae.latent_dropout": 0.375, "vae.rope_theta": 5e4,
        "vae.freeze_embedding": True, "vae.loss_vocabulary": 7,
        "sllm.context_sentences": 9, "sllm.context_attention_heads": 4, "sllm.freeze_vae": True,
        "sllm.trunk_prediction": False, "sllm.code_books": 4, "sllm.code_entries": 16, "sllm.code_loss_weight": 0.5,
    }  # fmt: skip
    shared = [
        *(f"vae.{field.name}" for one in (VaeArchitecture, VaeTraining) for field in fields(one)),
        *(f"sllm.{field.name}" for field in fields(SllmArchitecture)),
    ]
    apart = {  # it does not go with those
        "sllm.state_attention_sentences": 5, "vae.encoder_layers": 0, "vae.block": "llama", "vae.decoder_window": 8,
        "vae.conditioning": "none", "vae.output_latent_scale": 0.5,
    }  # fmt: skip
    assert sorted({*changed, *apart}) == sorted(shared), "a new option needs a value here"
    states = build_sllm(untrained(override(load_config(None), apart)), None, read_weights=False)
    assert states.config.state_attention_sentences == 5
    config = override(load_config(None), changed)
    sllm = build_sllm(untrained(config), None, read_weights=False)
    saved = {"vae": sllm.vae.config.to_dict(), "sllm": sllm.config.to_dict()}
    for key, value in changed.items():
        section, _, name = key.partition(".")
        assert saved[section][name] == value, key


@pytest.mark.parametrize("tied", [True, False])
def test_a_frozen_embedding_is_frozen_in_both_models(tied):
    config = override(load_config(None), {"vae.freeze_embedding": True, "vae.tie_word_embeddings": tied})
    vae = build_vae(config, None, read_weights=False)
    sllm = build_sllm(untrained(config), None, read_weights=False)
    for model, name in ((vae, ""), (sllm, "vae.")):
        frozen = {key for key, weight in model.named_parameters() if not weight.requires_grad}
        assert frozen == {f"{name}embedding.weight", *([] if tied else [f"{name}head.weight"])}


def test_a_decoder_that_starts_from_a_model_needs_one():
    config = override(load_config(None), {"vae.decoder_from_lm": [0], "vae.block": "llama"})
    with pytest.raises(ConfigError, match=r"vae\.decoder_from_lm needs models\.lm=FOLDER or"):
        build_vae(config, None, read_weights=False)
    assert build_vae(untrained(config), None, read_weights=False).config.num_layers == 1


@pytest.mark.parametrize("preset", sorted(PRESETS.glob("*.yaml")), ids=lambda path: path.stem)
def test_dry_run(preset):
    result = CliRunner().invoke(app, ["run", str(preset), "--dry-run"])
    assert result.exit_code == 0, result.output
    tree = yaml.safe_load(result.stdout)
    assert tree["vae"]["num_layers"] == int(preset.stem[-1])
    assert tree["trunk"]["path"] == f"facebook/{preset.stem[:-3]}"
