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
        states = own.sllm.state_attention_sentences
        attends = own.sllm.context_attention_heads > 0 or bool(states)
        if "token-level-twin" in compare.controls and attends:
            twin_name, twin = (
                _states_twin(variant, own, states, chunk) if states else _twin(config, chosen, own, chunk)
            )
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
            memory = "state_attention_sentences" if states else "context_attention_heads"
            changed = _control(variant, name, title, {f"sllm.{memory}": 0})
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


def _states_twin(variant: Variant, design: Config, states: int, chunk: int) -> tuple[str, Variant]:
    """The decoder of a design with `state_attention_sentences` as a token-level model, over chunks in place of
    sentences: its name and variant. It is trained as the section `lm` of the design says."""
    vae, sllm = design.vae, design.sllm
    layers: dict[str, object] = {
        "model_type": "states_lm",
        "hidden_size": vae.hidden_size or design.trunk.config["hidden_size"],
        "num_layers": vae.num_layers,
        "num_heads": vae.num_heads,
        "ffn_multiplier": vae.ffn_multiplier,
        "rope_theta": vae.rope_theta,
        "sliding_window": vae.decoder_window,
        "chunk_tokens": chunk,
        "attended_chunks": states,
        "tie_word_embeddings": vae.tie_word_embeddings,
    }
    changes = {
        "trunk.config": layers,
        "lm.context_tokens": sllm.context_sentences * chunk + 1,
        "lm.loss_tokens": None if sllm.loss_sentences is None else sllm.loss_sentences * chunk,
    }
    title = (
        f"token-level, {vae.num_layers} layer{'s' * (vae.num_layers > 1)}, each attends to the last positions of "
        f"{states} chunks of {chunk} tokens"
    )
    name = f"twin-{vae.num_layers}-layers-states-of-{states}-chunks"
    return name, _changed(
        variant, title, overrides={**variant.overrides, **changes}, changed_from=None, stages={"train-lm": 1}
    )


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
