"""The configuration of a design: its preset's models, the comparison's corpus, overrides in their order."""

from pathlib import Path

import pytest
import yaml

from pipeline.config import load_config
from pipeline.errors import ConfigError
from pipeline.evaluation.designs import check_variants, design_config

DESIGNS = Path(__file__).parents[3] / "jobs" / "presets" / "designs"
COMPARE = DESIGNS.parent / "compare.yaml"


def comparison(variant: str, *options: str):
    return load_config(
        None, [f"compare.variants={{a: {{title: a, stages: {{train-lm: 1}}, {variant}}}}}", *options]
    )


def test_a_design_has_the_models_of_its_preset_and_the_corpus_of_the_comparison(tmp_path):
    file = tmp_path / "own.yaml"
    file.write_text("tokenizer: {vocab_size: 300}\nlm: {context_tokens: 33}\nvae: {num_layers: 3}\n")
    config = comparison(f"preset: {file}", "tokenizer.vocab_size=500", "precision=bf16")
    own = design_config(config, "a", DESIGNS, {})
    assert own.lm.context_tokens == 33 and own.vae.num_layers == 3
    assert own.tokenizer.vocab_size == 500 and own.precision == "bf16"


def test_overrides_of_a_design_go_over_those_of_all_and_these_over_the_preset():
    config = comparison(
        "preset: token-level-4-layers, overrides: {lm.train.seed: 2}",
        "compare.overrides={lm.train.seed: 1, trunk.config.num_hidden_layers: 3}",
    )
    own = design_config(config, "a", DESIGNS, {})
    assert own.lm.train.seed == 2 and own.trunk.config["num_hidden_layers"] == 3
    assert own.trunk.config["model_type"] == "gemma" and own.lm.train.micro_batch_tokens == 2048


@pytest.mark.parametrize(
    ("variant", "options", "message"),
    [
        ("preset: no-such", (), r"compare\.variants\.a: there is no preset no-such; .*paper-h1"),
        ("preset: no/such.yaml", (), r"compare\.variants\.a: cannot read the configuration no/such\.yaml"),
        ("preset: paper-h1, overrides: {vae.num_layer: 2}", (), r"compare\.variants\.a: .*vae\.num_layers"),
        ("preset: paper-h1", ("lm.train.seed=1",), r"section lm of their presets; .*compare\.overrides="),
    ],
)
def test_what_would_be_lost_or_cannot_be_read_is_refused(variant, options, message):
    with pytest.raises(ConfigError, match=message):
        check_variants(comparison(variant, *options), DESIGNS)


def test_a_design_without_a_preset_has_the_models_of_the_comparison():
    config = comparison("overrides: {lm.loss_tokens: 5}", "lm.context_tokens=44")
    check_variants(config, DESIGNS)
    own = design_config(config, "a", DESIGNS, {})
    assert (own.lm.context_tokens, own.lm.loss_tokens) == (44, 5)


def test_the_comparison_that_is_shipped_names_presets_that_there_are():
    config = load_config(str(COMPARE))
    variants = check_variants(config, DESIGNS)
    assert len(variants) == 24
    assert {variant.preset for variant in variants.values()} == {path.stem for path in DESIGNS.glob("*.yaml")}
    titles = [variant.title for variant in variants.values()]
    assert len(set(titles)) == len(titles)
    assert not any(title.startswith(("and ", "the same")) for title in titles)


@pytest.mark.parametrize("file", sorted(DESIGNS.glob("*.yaml")), ids=lambda path: path.stem)
def test_a_preset_reads_from_top_to_bottom_and_trains_the_stages_of_its_design(file):
    text = file.read_text()
    assert not any(isinstance(event, yaml.AliasEvent) for event in yaml.parse(text))
    config = load_config(str(file))
    variant = load_config(str(COMPARE)).compare.variants[file.stem]
    assert [job for job in config.run.jobs if job.startswith("train-")] == list(variant.stages)
    assert config.output == f"runs/{file.stem}"
