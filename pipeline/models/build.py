"""From a configuration and shards to the model of a training job: with its weights, or in shape alone, to be checked.

In shape alone it is built on the meta device, from configurations: no weight is read, whatever the size, and what does
not fit is found before work starts.
"""

import copy
from collections.abc import Callable
from typing import Any, Literal, TypeVar

import torch
from pydantic import ValidationError
from torch import nn
from transformers import AutoModel, AutoModelForCausalLM, PreTrainedConfig, PreTrainedModel

from pipeline.config import Config, Section, SllmConfig, VaeConfig
from pipeline.errors import ConfigError, ModelError, SllmError
from pipeline.models.model_folder import check_weights, load_model, read_config
from pipeline.models.sentence_vae import SentenceVae, SentenceVaeConfig, check_longest
from pipeline.models.sllm import Sllm, SllmModelConfig
from pipeline.models.token_lm import TokenLm, load_causal_lm
from pipeline.models.tokenizer_agreement import check_tokenizer
from pipeline.models.trunk import (
    check_described,
    check_positions,
    check_runs,
    check_vocabulary,
    choose_trained,
    empty_model,
    load_layers,
    new_config,
    pretrained_config,
    token_vectors,
)
from pipeline.shards.reading import Shards, open_shards

Part = TypeVar("Part", bound=PreTrainedModel)

_VAE_TRAINING = frozenset(
    {"free_bits", "focal_gamma", "token_dropout", "latent_dropout", "initial_latent_scale"}
)
"""Options of a SentenceVAE that may change where training goes on from its weights."""
_VAE_SWITCHES = frozenset({"kl_weight", "output_latent_scale"})
"""Options of which only whether they are over 0 decides which weights there are."""


def build_lm(config: Config, shards: Shards, read_weights: bool = True) -> tuple[nn.Module, PreTrainedModel]:
    """The token-level model: of `models.lm`, to go on from, else of `trunk.path`, else fresh."""
    source = _pretrained(config)
    found = _trunk_config(config, shards, source)
    if config.models.lm is not None:
        check_described(config.models.lm, found, config.trunk)
    check_positions(source or "trunk.config", found, config.lm.context_tokens, "lm.context_tokens")
    model = _causal_lm(config, found, source, read_weights)
    tokenizer = shards.tokenizer()
    model.config.tokenizer_digest = shards.manifest.tokenizer_digest
    model.config.tokenizer_bos_eos = [tokenizer.bos_id, tokenizer.eos_id]
    return TokenLm(model), model


def build_vae(config: Config, shards: Shards, read_weights: bool = True) -> tuple[nn.Module, PreTrainedModel]:
    """The SentenceVAE: of `models.vae`, to go on from, else fresh, with the embedding of the token-level model."""
    start = config.models.vae
    if start is None:
        vae = _new_vae(config, shards, read_weights)
    else:
        earlier = sllm_part(start, SentenceVae, "vae", read_weights)
        check_tokenizer(start, earlier.config, shards)
        vae_config = _vae_config(config, shards, config.vae.hidden_size or earlier.config.hidden_size)
        _check_same_vae(start, earlier.config, vae_config)
        vae = _shaped(lambda: SentenceVae(vae_config), read_weights)
        vae.load_state_dict(earlier.state_dict())
    return vae, vae


def build_sllm(
    config: Config, shards: Shards, read_weights: bool = True
) -> tuple[nn.Module, PreTrainedModel]:
    """The SLLM: of `models.sllm`, to go on from, else of its SentenceVAE and trunk."""
    sllm = (
        _new_sllm(config, shards, read_weights)
        if config.models.sllm is None
        else _earlier_sllm(config.models.sllm, config, shards, read_weights)
    )
    choose_trained(sllm.trunk, config.sllm)
    return sllm, sllm


def sllm_part(path: str | None, kind: type[Part], name: str, read_weights: bool = True) -> Part:
    """The SentenceVAE or SLLM in a folder. Raises `ConfigError` without a path, `ModelError` without a model."""
    if path is None:
        raise ConfigError(f"this job needs models.{name}=FOLDER, written by `sllm train-{name}`")
    found = read_config(path)
    if kind.config_class is None or not isinstance(found, kind.config_class):
        raise ModelError(f"models.{name}={path} holds a {found.model_type!r}, not a {kind.__name__}")
    _check_values(path, found)
    if read_weights:
        model = load_model(AutoModel, path, kind.__name__)
    else:
        check_weights(path)
        try:
            model = _shaped(lambda: kind(found), read_weights)
        except SllmError as error:
            raise ModelError(f"{path}/config.json is damaged: {error}") from error
    assert isinstance(model, kind)
    return model


def check_models(config: Config, shards: Shards) -> None:
    """Raise `ModelError` where a model of `config.models` is missing, damaged, or not of the shards' tokenizer.

    Reads configurations, the tokenizers beside the models and the heads of their files, no weights.
    """
    vocab_size = shards.tokenizer().vocab_size
    if config.models.lm is not None:
        found = read_config(config.models.lm, config.trunk.trust_remote_code)
        check_tokenizer(config.models.lm, found, shards)
        check_vocabulary(config.models.lm, found, vocab_size)
        check_positions(config.models.lm, found, config.lm.context_tokens, "lm.context_tokens")
        check_weights(config.models.lm)
    if config.models.vae is not None:
        vae = sllm_part(config.models.vae, SentenceVae, "vae", read_weights=False)
        check_tokenizer(config.models.vae, vae.config, shards)
        check_vocabulary(config.models.vae, vae.config, vocab_size)
    if config.models.sllm is not None:
        sllm = sllm_part(config.models.sllm, Sllm, "sllm", read_weights=False)
        check_tokenizer(config.models.sllm, sllm.vae.config, shards)
        check_vocabulary(config.models.sllm, sllm.vae.config, vocab_size)


def _check_values(path: str, found: PreTrainedConfig) -> None:
    """Raise `ModelError` where a model of ours has a value that no configuration could have given it."""
    parts: list[tuple[type[Section], PreTrainedConfig]] = [(VaeConfig, getattr(found, "vae_config", found))]
    if isinstance(found, SllmModelConfig):
        parts.append((SllmConfig, found))
    try:
        for section, values in parts:
            section.model_validate(
                {name: getattr(values, name) for name in section.model_fields if hasattr(values, name)}
            )
    except ValidationError as error:
        first = error.errors()[0]
        raise ModelError(
            f"{path}/config.json is damaged: {'.'.join(map(str, first['loc']))}: {first['msg']}"
        ) from error


def vae_model_config(config: Config, hidden_size: int, **of_shards: Any) -> SentenceVaeConfig:
    """What the SentenceVAE of a configuration is built from; `of_shards`: vocabulary, ids, segmenter, ..."""
    options: dict[str, Any] = config.vae.model_dump(exclude={"hidden_size", "init_from_lm", "train"})
    return SentenceVaeConfig(**{**options, **of_shards}, hidden_size=hidden_size)


def sllm_model_config(
    config: Config, vae_config: PreTrainedConfig, trunk_config: PreTrainedConfig
) -> SllmModelConfig:
    """What the SLLM of a configuration is built from."""
    trunk_config = copy.deepcopy(trunk_config)
    trunk_config._attn_implementation = config.trunk.attention or "sdpa"
    return SllmModelConfig(
        vae_config=vae_config,
        trunk_config=trunk_config,
        context_sentences=config.sllm.context_sentences,
        freeze_vae=config.sllm.freeze_vae,
        context_attention_heads=config.sllm.context_attention_heads,
    )


def sentence_limits(config: Config, first: Shards) -> dict[str, int]:
    """By folder of shards, the first one open already, how many tokens a sentence has at most."""
    mixed = [first, *(open_shards(folder, config.stream) for folder in config.shard_folders[1:])]
    return {shards.folder: shards.manifest.max_sentence_tokens for shards in mixed}


def sentence_limit(path: str, name: Literal["vae", "sllm"]) -> int:
    """Tokens after which the model in a folder ends each sentence, without its weights; raises as `sllm_part`."""
    kind: type[PreTrainedModel] = SentenceVae if name == "vae" else Sllm
    model = sllm_part(path, kind, name, read_weights=False)
    limit: int = (model.vae if isinstance(model, Sllm) else model).config.max_sentence_tokens
    return limit


def _check_limits(config: Config, shards: Shards, vae_config: PreTrainedConfig, key: str) -> None:
    """Raise `ModelError` where shards have longer sentences than the model can write."""
    for folder, limit in sentence_limits(config, shards).items():
        check_longest(limit, vae_config.max_sentence_tokens, f"{folder} and {key}: ")


def max_positions(config: Config) -> int:
    """Positions that a trunk needs, as a token-level model and as a sentence-level one."""
    return max(config.lm.context_tokens, config.sllm.context_sentences + 1)


def _token_ids(shards: Shards) -> dict[str, int]:
    tokenizer = shards.tokenizer()
    return {
        "vocab_size": tokenizer.vocab_size,
        "bos_token_id": tokenizer.bos_id,
        "eos_token_id": tokenizer.eos_id,
    }


def _pretrained(config: Config) -> str | None:
    """Where weights may come from: the trained token-level model, else the pretrained one."""
    return config.models.lm or config.trunk.path


def _trunk_config(config: Config, shards: Shards, source: str | None) -> PreTrainedConfig:
    """Of the model in `source`, else a new one."""
    ids = _token_ids(shards)
    if source is None:
        found = new_config(config.trunk, max_positions=max_positions(config), **ids)
        check_vocabulary("trunk.config", found, ids["vocab_size"])
        return found
    found = pretrained_config(source, config.trunk)
    check_tokenizer(source, found, shards)
    check_vocabulary(source, found, ids["vocab_size"])
    return found


def _causal_lm(
    config: Config, found: PreTrainedConfig, source: str | None, read_weights: bool
) -> PreTrainedModel:
    if source is not None and read_weights:
        return load_causal_lm(source, config.trunk)
    if source is not None:
        check_weights(source)
    what = source or "trunk.config"
    model = _shaped(
        lambda: empty_model(AutoModelForCausalLM, found, what, config.trunk.attention), read_weights
    )
    check_runs(model, what)
    return model


def _shaped(build: Callable[[], Part], read_weights: bool) -> Part:
    """With fresh weights; where none are read, on the meta device."""
    with torch.device("cpu" if read_weights else "meta"):
        return build()


def _vae_config(config: Config, shards: Shards, hidden_size: int) -> SentenceVaeConfig:
    return vae_model_config(
        config,
        hidden_size,
        **_token_ids(shards),
        max_sentence_tokens=max(sentence_limits(config, shards).values()),
        tokenizer_digest=shards.manifest.tokenizer_digest,
        segmenter=shards.manifest.segmenter,
    )


def _new_vae(config: Config, shards: Shards, read_weights: bool) -> SentenceVae:
    source = _pretrained(config)
    of_trunk = _trunk_config(config, shards, source)
    hidden_size = config.vae.hidden_size or of_trunk.hidden_size
    vae_config = _vae_config(config, shards, hidden_size)
    vae = _shaped(lambda: SentenceVae(vae_config), read_weights)
    if config.vae.init_from_lm and source is not None:
        embedding = token_vectors(_causal_lm(config, of_trunk, source, read_weights))
        if embedding.shape[1] == hidden_size:
            with torch.no_grad():
                vae.embedding.weight.copy_(embedding[: vae.config.vocab_size])
    return vae


def _new_sllm(config: Config, shards: Shards, read_weights: bool) -> Sllm:
    if config.sllm.vae_from == "config":
        vae = _new_vae(config, shards, read_weights)
    else:
        vae = sllm_part(config.models.vae, SentenceVae, "vae", read_weights)
        check_tokenizer(str(config.models.vae), vae.config, shards)
        check_vocabulary(str(config.models.vae), vae.config, shards.tokenizer().vocab_size)
        _check_limits(config, shards, vae.config, "models.vae")
        vae.config.segmenter = shards.manifest.segmenter
    sources = {"lm": config.models.lm, "path": config.trunk.path, "config": None}
    source = sources[config.sllm.trunk_from]
    if source is None and config.sllm.trunk_from != "config":
        key = {"lm": "models.lm=FOLDER", "path": "trunk.path=MODEL"}[config.sllm.trunk_from]
        raise ConfigError(
            f"sllm.trunk_from={config.sllm.trunk_from} needs {key}; or set sllm.trunk_from=config"
        )
    of_trunk = _trunk_config(config, shards, source or _pretrained(config))
    sllm = _shaped(lambda: Sllm(sllm_model_config(config, vae.config, of_trunk)), read_weights)
    sllm.vae.load_state_dict(vae.state_dict())
    if source is not None:
        load_layers(sllm.trunk, _causal_lm(config, of_trunk, source, read_weights))
    elif not read_weights:
        check_runs(sllm.trunk, "trunk.config")
    return sllm


def _earlier_sllm(path: str, config: Config, shards: Shards, read_weights: bool) -> Sllm:
    """The SLLM of earlier training, in the frame of this configuration."""
    earlier = sllm_part(path, Sllm, "sllm", read_weights)
    check_tokenizer(path, earlier.vae.config, shards)
    check_described(path, earlier.trunk.config, config.trunk)
    vae_config: PreTrainedConfig = earlier.vae.config
    if config.sllm.vae_from == "config":
        vae_config = _vae_config(config, shards, config.vae.hidden_size or vae_config.hidden_size)
        _check_same_vae(path, earlier.vae.config, vae_config)
    _check_limits(config, shards, vae_config, "models.sllm")
    vae_config.segmenter = shards.manifest.segmenter
    if config.sllm.context_attention_heads != earlier.config.context_attention_heads:
        raise ModelError(
            f"the model in {path} has context_attention_heads {earlier.config.context_attention_heads}, "
            f"sllm.context_attention_heads says {config.sllm.context_attention_heads}: {_SAME_ARCHITECTURE}"
        )
    sllm = _shaped(lambda: Sllm(sllm_model_config(config, vae_config, earlier.trunk.config)), read_weights)
    sllm.load_state_dict(earlier.state_dict())
    return sllm


_SAME_ARCHITECTURE = "training goes on from weights of the same architecture only"


def _check_same_vae(path: str, earlier: PreTrainedConfig, wanted: SentenceVaeConfig) -> None:
    """Raise `ModelError` naming the first option of architecture in which the two differ."""
    names = [name for name in SentenceVaeConfig.__annotations__ if name not in _VAE_TRAINING]
    for name in names:
        if name in (
            "model_type",
            "initializer_range",
            "tokenizer_digest",
            "segmenter",
            "max_sentence_tokens",
        ):
            continue
        before, now = getattr(earlier, name), getattr(wanted, name)
        if name == "encoder_layers":
            before, now = (
                one.num_layers if layers is None else layers
                for one, layers in ((earlier, before), (wanted, now))
            )
        if name in _VAE_SWITCHES:
            before, now = before > 0, now > 0
        if before != now:
            raise ModelError(
                f"the SentenceVAE in {path} has {name} {getattr(earlier, name)!r}, the configuration says "
                f"{getattr(wanted, name)!r}: {_SAME_ARCHITECTURE}"
            )
