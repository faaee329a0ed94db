"""From a configuration and shards to the three models: with their weights, or on the meta device.

On the meta device a model is built without reading weights. So `sllm plan` counts models of any size, and a training
job finds what does not fit before it starts.
"""

import copy
import dataclasses
from typing import Any

import torch
from transformers import AutoModelForCausalLM, PreTrainedConfig, PreTrainedModel

from pipeline.config import Config, ModelsConfig, TrunkConfig
from pipeline.config.models import SllmArchitecture, VaeArchitecture, VaeTraining
from pipeline.errors import ConfigError, ModelError
from pipeline.models.attention.chunks import with_context_attention
from pipeline.models.decoder_start import start_decoder
from pipeline.models.model_folder import check_folder, is_folder, on_device
from pipeline.models.saved import check_fits, saved_model
from pipeline.models.sentence_vae import SentenceVae, SentenceVaeConfig, check_longest
from pipeline.models.sllm import Sllm, SllmModelConfig
from pipeline.models.token_lm import TokenLm, load_causal_lm
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

_SWITCHES = frozenset({"kl_weight", "output_latent_scale"})
"""Options of a SentenceVAE for which the architecture depends only on whether they are above 0."""
_OF_TRAINING = ("freeze_embedding", "loss_vocabulary")
"""Options of a SentenceVAE that the training of an SLLM takes from its own configuration."""
_SAME_ARCHITECTURE = "training continues only from weights of the same architecture"


def build_lm(config: Config, shards: Shards | None, read_weights: bool = True) -> TokenLm:
    """The token-level model: that of `models.lm` if it is given, else that of `trunk.path`, else a fresh one.

    Without shards, here and below, vocabulary and longest sentence are those of the configuration.
    """
    source = _pretrained(config)
    found = _trunk_config(config, shards, source)
    if config.models.lm is not None:
        check_described(config.models.lm, getattr(found, "lm_config", found), config.trunk)
    check_positions(source or "trunk.config", found, config.lm.context_tokens, "lm.context_tokens")
    model = _causal_lm(config, found, source, read_weights)
    model = with_context_attention(model, config.lm, read_weights)
    if shards is not None:
        tokenizer = shards.tokenizer()
        model.config.tokenizer_digest = shards.manifest.tokenizer_digest
        model.config.tokenizer_bos_eos = [tokenizer.bos_id, tokenizer.eos_id]
    return TokenLm(model)


def build_vae(config: Config, shards: Shards | None, read_weights: bool = True) -> SentenceVae:
    """The SentenceVAE: that of `models.vae` if it is given, else a fresh one with the embedding of the token-level
    model."""
    start = config.models.vae
    if start is None:
        return _new_vae(config, shards, read_weights)
    earlier = saved_model(start, SentenceVae, "vae", read_weights)
    check_fits(start, earlier.config, shards)
    vae_config = _vae_config(config, shards, earlier.config)
    _check_same_vae(start, earlier.config, vae_config)
    vae = on_device(lambda: SentenceVae(vae_config), read_weights)
    vae.load_state_dict(earlier.state_dict())
    return vae


def build_sllm(config: Config, shards: Shards | None, read_weights: bool = True) -> Sllm:
    """The SLLM: that of `models.sllm` if it is given, else one built from its SentenceVAE and trunk."""
    sllm = (
        _new_sllm(config, shards, read_weights)
        if config.models.sllm is None
        else _earlier_sllm(config.models.sllm, config, shards, read_weights)
    )
    choose_trained(sllm.trunk, config.sllm)
    return sllm


def untrained(config: Config) -> Config:
    """The same configuration for fresh models: it needs none of `models`, and downloads nothing if `trunk.config`
    describes the trunk."""
    trunk = config.trunk
    is_described = trunk.config != TrunkConfig().config
    path = trunk.path if trunk.path is None or is_folder(trunk.path) or not is_described else None
    sllm = {"vae_from": "config", "trunk_from": "config" if path is None else "path"}
    return config.model_copy(
        update={
            "models": ModelsConfig(),
            "trunk": trunk.model_copy(update={"path": path}),
            "vae": config.vae.model_copy(update={"decoder_from_lm": None}),
            "sllm": config.sllm.model_copy(update=sllm),
        }
    )


def _pretrained(config: Config) -> str | None:
    """Folder of the token-level model whose weights are used: the trained one, else the pretrained one."""
    if config.models.lm is not None:
        check_folder(config.models.lm)
    return config.models.lm or config.trunk.path


def _trunk_config(config: Config, shards: Shards | None, source: str | None) -> PreTrainedConfig:
    """The configuration of the model in `source`, else a new one."""
    if source is not None:
        found = pretrained_config(source, config.trunk)
        check_fits(source, found, shards)
        return found
    # The positions that the trunk needs in a token-level model and in an SLLM.
    max_positions = max(config.lm.context_tokens, config.sllm.context_sentences + 1)
    ids = {"vocab_size": config.tokenizer.vocab_size} if shards is None else _token_ids(shards)
    found = new_config(config.trunk, max_positions=max_positions, **ids)
    if shards is not None:
        check_vocabulary("trunk.config", found, ids["vocab_size"])
    return found


def _token_ids(shards: Shards) -> dict[str, int]:
    tokenizer = shards.tokenizer()
    return {
        "vocab_size": tokenizer.vocab_size,
        "bos_token_id": tokenizer.bos_id,
        "eos_token_id": tokenizer.eos_id,
    }


def _causal_lm(
    config: Config, found: PreTrainedConfig, source: str | None, read_weights: bool
) -> PreTrainedModel:
    if source is not None and read_weights:
        return load_causal_lm(source, config.trunk)
    what = source or "trunk.config"
    model = on_device(
        lambda: empty_model(
            AutoModelForCausalLM, found, what, config.trunk.attention, config.trunk.trust_remote_code
        ),
        read_weights,
    )
    check_runs(model, what)
    return model


def _vae_config(config: Config, shards: Shards | None, beside: PreTrainedConfig) -> SentenceVaeConfig:
    """`beside`: the configuration of the trunk, or of the SentenceVAE from which training continues. It gives the width
    if `vae.hidden_size` is not set, and the vocabulary if there are no shards."""
    of_text: dict[str, Any] = {"vocab_size": beside.vocab_size}
    if shards is not None:
        of_text = {
            **_token_ids(shards),
            "tokenizer_digest": shards.manifest.tokenizer_digest,
            "segmenter": shards.manifest.segmenter,
        }
    return SentenceVaeConfig(
        **_shared_options(config.vae, VaeArchitecture, VaeTraining),
        **of_text,
        hidden_size=config.vae.hidden_size or beside.hidden_size,
        max_sentence_tokens=max(_longest_sentences(config, shards).values()),
    )


def _sllm_config(
    config: Config, vae_config: PreTrainedConfig, trunk_config: PreTrainedConfig
) -> SllmModelConfig:
    for option in _OF_TRAINING:
        setattr(vae_config, option, getattr(config.vae, option))
    trunk_config = copy.deepcopy(trunk_config)
    trunk_config._attn_implementation = config.trunk.attention or "sdpa"
    return SllmModelConfig(
        vae_config=vae_config,
        trunk_config=trunk_config,
        **_shared_options(config.sllm, SllmArchitecture),
    )


def _shared_options(section: object, *shared: type) -> dict[str, Any]:
    """The options of a section that are saved with the model: those of the dataclasses that both inherit."""
    return {field.name: getattr(section, field.name) for one in shared for field in dataclasses.fields(one)}


def _longest_sentences(config: Config, shards: Shards | None) -> dict[str, int]:
    """Tokens of the longest sentence, by folder of shards; `first` is open already."""
    if shards is None:
        return {"prepare": config.prepare.max_sentence_tokens}
    mixed = [shards, *(open_shards(folder, config.stream) for folder in config.shard_folders[1:])]
    return {one.folder: one.manifest.max_sentence_tokens for one in mixed}


def _check_longest(config: Config, shards: Shards | None, vae_config: PreTrainedConfig, key: str) -> None:
    """Raise `ModelError` where shards have longer sentences than the model can generate."""
    for folder, limit in _longest_sentences(config, shards).items():
        check_longest(limit, vae_config.max_sentence_tokens, f"{folder} and {key}: ")


def _new_vae(config: Config, shards: Shards | None, read_weights: bool) -> SentenceVae:
    source = _pretrained(config)
    of_trunk = _trunk_config(config, shards, source)
    vae_config = _vae_config(config, shards, of_trunk)
    vae = on_device(lambda: SentenceVae(vae_config), read_weights)
    layers = config.vae.decoder_from_lm
    if layers is not None and (source is None or not config.vae.init_from_lm):
        raise ConfigError(
            "vae.decoder_from_lm needs models.lm=FOLDER or trunk.path=MODEL, and vae.init_from_lm=true"
        )
    if config.vae.init_from_lm and source is not None:
        model = _causal_lm(config, of_trunk, source, read_weights)
        embedding = token_vectors(model)
        if embedding.shape[1] == vae_config.hidden_size:
            with torch.no_grad():
                vae.embedding.weight.copy_(embedding[: vae.config.vocab_size])
        if layers is not None:
            start_decoder(vae, model, layers)
    return vae


def _new_sllm(config: Config, shards: Shards | None, read_weights: bool) -> Sllm:
    if config.sllm.vae_from == "config":
        vae = _new_vae(config, shards, read_weights)
    else:
        vae = saved_model(config.models.vae, SentenceVae, "vae", read_weights)
        check_fits(str(config.models.vae), vae.config, shards)
        _check_longest(config, shards, vae.config, "models.vae")
        _take_segmenter(vae.config, shards)
    sources = {"lm": config.models.lm, "path": config.trunk.path, "config": None}
    source = sources[config.sllm.trunk_from]
    if source is None and config.sllm.trunk_from != "config":
        key = {"lm": "models.lm=FOLDER", "path": "trunk.path=MODEL"}[config.sllm.trunk_from]
        raise ConfigError(
            f"sllm.trunk_from={config.sllm.trunk_from} needs {key}; or set sllm.trunk_from=config"
        )
    of_trunk = _trunk_config(config, shards, source or _pretrained(config))
    sllm = on_device(lambda: Sllm(_sllm_config(config, vae.config, of_trunk)), read_weights)
    sllm.vae.load_state_dict(vae.state_dict())
    if source is not None:
        if hasattr(of_trunk, "lm_config") or of_trunk.model_type == "states_lm":
            raise ModelError(
                f"the model in {source} attends to chunks of tokens and is no trunk: train one without "
                "lm.context_attention_heads"
            )
        load_layers(sllm.trunk, _causal_lm(config, of_trunk, source, read_weights))
    elif not read_weights:
        check_runs(sllm.trunk, "trunk.config")
    return sllm


def _earlier_sllm(path: str, config: Config, shards: Shards | None, read_weights: bool) -> Sllm:
    """The SLLM in a folder, with the training options of this configuration."""
    earlier = saved_model(path, Sllm, "sllm", read_weights)
    check_fits(path, earlier.vae.config, shards)
    check_described(path, earlier.trunk.config, config.trunk)
    vae_config: PreTrainedConfig = earlier.vae.config
    if config.sllm.vae_from == "config":
        vae_config = _vae_config(config, shards, vae_config)
        _check_same_vae(path, earlier.vae.config, vae_config)
    _check_longest(config, shards, vae_config, "models.sllm")
    _take_segmenter(vae_config, shards)
    for name in ("context_attention_heads", "state_attention_sentences"):
        found, wanted = getattr(earlier.config, name), getattr(config.sllm, name)
        if found != wanted:
            says = f"sllm.{name} says {wanted}: {_SAME_ARCHITECTURE}"
            raise ModelError(f"the model in {path} has {name} {found}, {says}")
    sllm = on_device(lambda: Sllm(_sllm_config(config, vae_config, earlier.trunk.config)), read_weights)
    sllm.load_state_dict(earlier.state_dict())
    return sllm


def _take_segmenter(vae_config: PreTrainedConfig, shards: Shards | None) -> None:
    """Save the segmenter of the training shards in the model's configuration."""
    if shards is not None:
        vae_config.segmenter = shards.manifest.segmenter


def _check_same_vae(path: str, earlier: PreTrainedConfig, wanted: PreTrainedConfig) -> None:
    """Raise `ModelError` that names the first option of the architecture in which the two differ."""
    options = [field.name for field in dataclasses.fields(VaeArchitecture)]
    for name in ("vocab_size", "hidden_size", *options, "bos_token_id", "eos_token_id"):
        before, now = getattr(earlier, name), getattr(wanted, name)
        if name == "encoder_layers":
            before, now = (
                one.num_layers if layers is None else layers
                for one, layers in ((earlier, before), (wanted, now))
            )
        if name in _SWITCHES:
            before, now = before > 0, now > 0
        if before != now:
            raise ModelError(
                f"the SentenceVAE in {path} has {name} {getattr(earlier, name)!r}, the configuration says "
                f"{getattr(wanted, name)!r}: {_SAME_ARCHITECTURE}"
            )
