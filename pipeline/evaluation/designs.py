"""The designs of a comparison: the configuration of each one, checked before anything is trained."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from pipeline.config import Config, Variant, load_config, override
from pipeline.errors import ConfigError, ModelError
from pipeline.evaluation.training_flops import training_flops_per_token
from pipeline.lineage import JobRecord
from pipeline.output_files import REPORT_FOLDER
from pipeline.training.task import build_task, train_config

MODEL_SECTIONS = ("trunk", "lm", "vae", "sllm")
"""Sections that a design takes from its preset; all others are those of the comparison."""


@dataclass(frozen=True)
class TrainedDesign:
    """A design whose stages are finished."""

    name: str
    variant: Variant
    seed: int | None
    """Seed of all its stages; none: those of its configuration."""
    config: Config
    """The design's configuration, with the folders of its models."""
    records: dict[str, JobRecord]
    """By verb, in the order of the stages."""

    @property
    def is_token_level(self) -> bool:
        """Whether its last stage is a token-level model."""
        return list(self.records)[-1] == "train-lm"

    @property
    def folder(self) -> str:
        """Folder of the model that is compared."""
        return str(getattr(self.config.models, model_of(list(self.records)[-1])))


def model_of(verb: str) -> str:
    """`lm`, `vae` or `sllm`: the model's section, key and folder."""
    return verb.removeprefix("train-")


def design_config(config: Config, name: str, presets: Path, done: Mapping[str, JobRecord]) -> Config:
    """The configuration of a design, with the folders of the stages that are `done`.

    `presets`: folder of the presets that are named without a path. Raises `ConfigError` that names the design.
    """
    variant = config.compare.variants[name]
    try:
        own = config if variant.preset is None else _with_models_of(config, variant.preset, presets)
        own = override(own, {**config.compare.overrides, **variant.overrides})
    except ConfigError as error:
        raise ConfigError(f"compare.variants.{name}: {error}") from error
    # Models of a stage start from fresh weights, so that all designs see the same tokens, unless the design sets them.
    given = {**config.compare.overrides, **variant.overrides}
    anew = {model_of(verb): None for verb in variant.stages if f"models.{model_of(verb)}" not in given}
    made = {model_of(verb): record.output.path for verb, record in done.items()}
    return own.model_copy(update={"models": own.models.model_copy(update={**anew, **made})})


def check_variants(config: Config, presets: Path) -> dict[str, Variant]:
    """The designs to compare. Raises `ConfigError` where one is wrong, before anything is trained."""
    variants = config.compare.variants
    for name in config.compare.only:
        if name not in variants:
            raise ConfigError(f"compare.only: {name} is no variant; there are {', '.join(variants)}")
    for name, variant in variants.items():
        if name == REPORT_FOLDER or Path(name).name != name:
            raise ConfigError(
                f"compare.variants.{name}: {name!r} cannot be the name of its folder; take another"
            )
        if list(variant.stages)[-1] == "train-vae":
            raise ConfigError(f"compare.variants.{name}.stages must end with train-lm or train-sllm")
        if variant.changed_from is not None and variant.changed_from not in variants:
            raise ConfigError(
                f"compare.variants.{name}.changed_from={variant.changed_from} is no variant; "
                f"there are {', '.join(variants)}"
            )
        design_config(config, name, presets, {})
    chosen = {
        name: variant for name, variant in variants.items() if name in (config.compare.only or variants)
    }
    if chosen and all(variant.preset is not None for variant in chosen.values()):
        _check_own_sections(config)
    return chosen


def check_design(config: Config, name: str, presets: Path) -> None:
    """Build the model of each stage on the meta device. Raises `ConfigError` or `ModelError` that names the design."""
    for verb in config.compare.variants[name].stages:
        try:
            build_task(verb, _fresh(config, name, presets), read_weights=False)
        except (ConfigError, ModelError) as error:
            raise type(error)(f"compare.variants.{name}: {error}") from error


def design_flops_per_token(config: Config, name: str, presets: Path) -> float:
    """Training FLOPs per document token of a design, its stages by their shares."""
    own, stages = _fresh(config, name, presets), config.compare.variants[name].stages
    flops = {
        verb: training_flops_per_token(build_task(verb, own), train_config(verb, own)) for verb in stages
    }
    return sum(flops[verb] * share for verb, share in stages.items()) / sum(stages.values())


def _fresh(config: Config, name: str, presets: Path) -> Config:
    """The configuration of a design whose stages read no models."""
    fresh = {
        **{"sllm.vae_from": "config", "sllm.trunk_from": "config"},
        **{"vae.init_from_lm": False, "vae.decoder_from_lm": None},
    }
    return override(design_config(config, name, presets, {}), fresh)


def baseline_of(config: Config, variants: Mapping[str, Variant]) -> str:
    """The name of the token-level design that is the denominator of the ratios. Raises `ConfigError` where there is
    none."""
    token_level = [name for name, variant in variants.items() if list(variant.stages)[-1] == "train-lm"]
    chosen = config.compare.baseline or next(iter(token_level), None)
    if chosen not in token_level:
        raise ConfigError(
            f"compare.baseline={chosen} is no token-level variant; there are {', '.join(token_level) or 'none'}"
        )
    return chosen


def _with_models_of(config: Config, preset: str, presets: Path) -> Config:
    is_name = not preset.endswith((".yaml", ".yml")) and "/" not in preset
    file = presets / f"{preset}.yaml"
    if is_name and not file.is_file():
        names = ", ".join(sorted(path.stem for path in presets.glob("*.yaml")))
        raise ConfigError(f"there is no preset {preset}; name a YAML file, or one of {names}")
    models = load_config(str(file) if is_name else preset)
    return config.model_copy(update={section: getattr(models, section) for section in MODEL_SECTIONS})


def _check_own_sections(config: Config) -> None:
    """Raise `ConfigError` for model options of the comparison, which no design would use."""
    for section in MODEL_SECTIONS:
        if getattr(config, section) != getattr(Config(), section):
            raise ConfigError(
                f"compare: all designs have the section {section} of their presets; "
                f"set options of all designs in compare.overrides={{{section}.KEY: VALUE}}"
            )
