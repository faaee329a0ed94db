"""The controls of a comparison as variants of their own, each with one change from its design.

A sentence-level design with context attention differs from a token-level model in two ways: it predicts sentences, and
it attends to earlier text. The controls take them apart.
"""

from collections.abc import Callable, Mapping
from pathlib import Path

from pipeline.config import CompareConfig, Config, Variant, override
from pipeline.errors import ConfigError
from pipeline.evaluation.designs import baseline_of, design_config

SAME_FLOPS = 0.02
"""Largest relative difference of training FLOPs that counts as none."""
FlopsPerToken = Callable[[Config, str], float]
"""Training FLOPs per document token of a variant of the configuration, by its name."""


def with_controls(
    config: Config,
    chosen: dict[str, Variant],
    presets: Path,
    chunk: int,
    blind_shards: str,
    flops_per_token: FlopsPerToken,
) -> tuple[Config, dict[str, Variant], dict[str, list[str]]]:
    """The configuration with the controls among its variants; `chosen` with those to train; the names of the
    controls of each sentence-level design.

    `chunk`: tokens of a chunk, of the twins and of the shards in the folder `blind_shards`. Raises `ConfigError` where
    a twin's variant is no token-level one.
    """
    compare = config.compare
    everything, trained = dict(compare.variants), dict(chosen)
    controls: dict[str, list[str]] = {}

    def add(design: str, name: str, variant: Variant) -> None:
        everything.setdefault(name, variant)
        trained.setdefault(name, variant)
        controls.setdefault(design, []).append(name)

    for name, variant in chosen.items():
        if list(variant.stages)[-1] != "train-sllm":
            continue
        own = design_config(config, name, presets, {})
        attends = own.sllm.context_attention_heads > 0
        if "token-level-twin" in compare.controls and attends:
            twin_name, twin = _twin(config, chosen, own, chunk)
            add(name, twin_name, twin)
            extended = with_variants(config, everything)
            ratio = flops_per_token(extended, name) / flops_per_token(extended, twin_name)
            if abs(ratio - 1) > SAME_FLOPS:
                tokens = round((variant.tokens or compare.tokens) * ratio)
                title = f"{twin.title}, {tokens:,} tokens: FLOPs of {name}"
                add(name, f"{twin_name}-flops-of-{name}", _changed(twin, title, tokens=tokens))
        if "blind-chunks" in compare.controls:
            changes = {"shards": blind_shards}
            title = f"{variant.title}; on blind chunks of {chunk} tokens"
            add(name, f"{name}-blind-chunks", _control(variant, name, title, changes))
        if "no-trunk-prediction" in compare.controls and own.sllm.trunk_prediction:
            title = f"{variant.title}; without the trunk's prediction"
            changed = _control(variant, name, title, {"sllm.trunk_prediction": False})
            add(name, f"{name}-no-trunk-prediction", changed)
        if "no-context-attention" in compare.controls and attends:
            title = f"{variant.title}; without context attention"
            changed = _control(variant, name, title, {"sllm.context_attention_heads": 0})
            add(name, f"{name}-no-context-attention", changed)
    return with_variants(config, everything), trained, controls


def _twin(config: Config, chosen: dict[str, Variant], design: Config, chunk: int) -> tuple[str, Variant]:
    """The token-level model with the memory of a design: its name and variant."""
    variants, source = config.compare.variants, config.compare.twin
    if source is None:
        source = baseline_of(config, chosen)
    if source not in variants or list(variants[source].stages)[-1] != "train-lm":
        raise ConfigError(f"compare.twin={source} is no token-level variant; there are {', '.join(variants)}")
    layers, chunks = design.vae.num_layers, design.sllm.context_sentences
    changes = {
        "trunk.config.num_hidden_layers": layers,
        "lm.context_attention_heads": design.sllm.context_attention_heads,
        "lm.context_chunk_tokens": chunk,
        "lm.context_chunks": chunks,
    }
    title = f"token-level, {layers} layer{'s' * (layers > 1)}, context attention over {chunks} chunks of {chunk} tokens"
    name = f"twin-{layers}-layers-{chunks}-chunks"
    return name, _control(variants[source], source, title, changes)


def _control(variant: Variant, name: str, title: str, changes: Mapping[str, object]) -> Variant:
    return _changed(variant, title, overrides={**variant.overrides, **changes}, changed_from=name)


def _changed(variant: Variant, title: str, **changes: object) -> Variant:
    return Variant.model_validate(variant.model_dump() | {"title": title} | changes)


def with_variants(config: Config, variants: dict[str, Variant]) -> Config:
    """The configuration with these variants."""
    compare = CompareConfig.model_validate({**config.compare.model_dump(), "variants": variants})
    return config.model_copy(update={"compare": compare})


def with_seed(config: Config, seed: int) -> Config:
    """The configuration with one seed for all stages of all designs."""
    seeds = {f"{section}.train.seed": seed for section in ("lm", "vae", "sllm")}
    return override(config, {"compare.overrides": {**config.compare.overrides, **seeds}})
