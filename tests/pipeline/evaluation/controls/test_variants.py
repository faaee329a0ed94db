"""The controls of a design follow from its own options."""

from pathlib import Path

import pytest

from pipeline.config import load_config
from pipeline.evaluation.controls.variants import with_controls
from pipeline.evaluation.designs import check_variants, design_config

NO_PRESETS = Path("no-presets")


@pytest.fixture
def config():
    options = (
        "{title: t, stages: {train-sllm: 1}, overrides: {sllm.trunk_from: config, sllm.vae_from: config, "
        "vae.block: llama, vae.decoder_window: 9, vae.conditioning: none, vae.output_latent_scale: 0.1, "
        "vae.encoder_layers: 0, vae.num_layers: 3, sllm.context_sentences: 20, sllm.state_attention_sentences: 7}}"
    )
    return load_config(
        None, [f"compare.variants={{lm: {{title: lm, stages: {{train-lm: 1}}}}, states: {options}}}"]
    )


def flops(config, name):
    return 1.5 if name == "states" else 1.0


def test_a_design_that_attends_to_states_has_a_twin_of_the_same_decoder(config):
    chosen = check_variants(config, NO_PRESETS)
    whole, trained, controls = with_controls(config, chosen, NO_PRESETS, 5, "blind", flops)
    twin = "twin-3-layers-states-of-7-chunks"
    changed = ["blind-chunks", "no-trunk-prediction", "no-context-attention"]
    own = [f"states-{name}" for name in changed]
    assert controls == {"states": [twin, f"{twin}-flops-of-states", *own]}
    of_twin = design_config(whole, twin, NO_PRESETS, {})
    expected = {
        **{"model_type": "states_lm", "hidden_size": 128, "num_layers": 3, "num_heads": 4},
        **{"sliding_window": 9, "chunk_tokens": 5, "attended_chunks": 7},
    }
    assert of_twin.trunk.config.items() >= expected.items() and of_twin.lm.context_tokens == 20 * 5 + 1
    assert trained[f"{twin}-flops-of-states"].tokens == round(1.5 * config.compare.tokens)
    without = design_config(whole, own[-1], NO_PRESETS, {})
    assert without.sllm.state_attention_sentences == 0 and without.vae.decoder_window == 9


def test_the_window_alone_is_no_memory_that_a_twin_could_have(config):
    config = load_config(
        None,
        [
            "compare.variants={lm: {title: lm, stages: {train-lm: 1}}, alone: {title: t, stages: {train-sllm: 1}, "
            "overrides: {sllm.state_attention_sentences: 0}}}"
        ],
    )
    _, _, controls = with_controls(config, check_variants(config, NO_PRESETS), NO_PRESETS, 5, "blind", flops)
    assert controls == {"alone": ["alone-blind-chunks", "alone-no-trunk-prediction"]}
