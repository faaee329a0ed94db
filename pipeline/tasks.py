"""What each training job trains: its model, its windows of the shards, and how its weights are kept."""

import copy
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor, nn
from transformers import AutoConfig, AutoModel, PreTrainedConfig, PreTrainedModel

from pipeline.config import Config, StreamConfig, TrainConfig
from pipeline.errors import ConfigError, ModelError
from pipeline.lm import load_causal_lm, new_lm
from pipeline.shards import Documents, Shards, SplitName, mixing_weights, open_shards
from pipeline.sllm import Sllm, SllmModelConfig
from pipeline.stream.order import Corpus
from pipeline.tokens import Tokenizer
from pipeline.trunk import (
    check_vocabulary,
    choose_trained,
    load_layers,
    merge_adapters,
    new_config,
    pretrained_config,
    token_vectors,
)
from pipeline.vae import SentenceVae, SentenceVaeConfig, check_longest
from pipeline.window_batches import SentenceWindows, TokenWindows, WindowSource

TrainingJob = Literal["train-lm", "train-vae", "train-sllm"]


@dataclass(frozen=True)
class Task:
    """A model to train, and on what."""

    module: nn.Module
    """Called with a batch, gives sums; `objective` is minimised."""
    model: PreTrainedModel
    """The part of `module` that is kept."""
    tokenizer: Tokenizer
    train: Sequence[Corpus]
    dev: Sequence[Corpus] | None
    stream: StreamConfig = field(default_factory=StreamConfig)

    def save(self, folder: Path, weights: dict[str, Tensor]) -> None:
        """Write a folder that the model can be rebuilt from alone: configuration, safetensors, tokenizer."""
        prefix = "model." if self.module is not self.model else ""
        own = {name.removeprefix(prefix): value for name, value in weights.items()}
        self.model.save_pretrained(folder, state_dict=merge_adapters(self.model, own))
        self.tokenizer.save(str(folder))


def train_config(job: TrainingJob, config: Config) -> TrainConfig:
    """The job's own training options."""
    options: dict[TrainingJob, TrainConfig] = {
        "train-lm": config.lm.train,
        "train-vae": config.vae.train,
        "train-sllm": config.sllm.train,
    }
    return options[job]


def build_task(job: TrainingJob, config: Config) -> Task:
    """The task of a training job; the same weights on every rank. Raises `ConfigError`, `ShardError`, `ModelError`."""
    shards = _open(job, config)[0]
    torch.manual_seed(train_config(job, config).seed)
    builders: dict[TrainingJob, Callable[[Config, Shards], tuple[nn.Module, PreTrainedModel]]] = {
        "train-lm": _build_lm,
        "train-vae": _build_vae,
        "train-sllm": _build_sllm,
    }
    module, model = builders[job](config, shards)
    if train_config(job, config).activation_checkpointing:
        recompute_activations(model)
    return Task(
        module=module,
        model=model,
        tokenizer=shards.tokenizer(),
        train=corpora(job, config, "train"),
        dev=corpora(job, config, "dev") or None,
        stream=config.stream,
    )


def corpora(job: TrainingJob, config: Config, split: SplitName) -> list[Corpus]:
    """What a training job reads of a split. Raises as `build_task`."""
    mixed = _open(job, config)
    tokenizer = mixed[0].tokenizer()
    return [
        Corpus(
            np.array([record.tokens for record in one.records(split)], np.int64),
            lambda index, one=one: _windows(job, config, one.documents(split, index), tokenizer),  # type: ignore[misc]
            lambda index, one=one: one.fetch_ahead(split, index),  # type: ignore[misc]
            weight,
        )
        for one, weight in zip(mixed, mixing_weights(mixed, config.stream.weights), strict=True)
        if split == "train" or one.manifest.totals[split].tokens
    ]


def _open(job: TrainingJob, config: Config) -> list[Shards]:
    if not config.shard_folders:
        raise ConfigError(f"{job} needs shards=FOLDER, written by `sllm prepare`")
    return [open_shards(folder, config.stream) for folder in config.shard_folders]


def limits(config: Config) -> dict[str, int]:
    """By folder of shards, how many tokens a sentence has at most."""
    return {
        folder: open_shards(folder, config.stream).manifest.max_sentence_tokens
        for folder in config.shard_folders
    }


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
        lookup_heads=config.sllm.lookup_heads,
    )


def recompute_activations(model: PreTrainedModel) -> None:
    """Let each layer keep only its inputs, and compute the rest again in the backward pass, with the same dropout.

    Non-reentrant, as ZeRO needs it where a layer is used twice. Raises `ModelError` for a model that cannot.
    """
    enable = getattr(model, "activation_checkpointing_enable", None) or model.gradient_checkpointing_enable
    try:
        enable({"use_reentrant": False})
    except ValueError as error:
        raise ModelError(f"train.activation_checkpointing: {error}") from error


def _windows(job: TrainingJob, config: Config, documents: Documents, tokenizer: Tokenizer) -> WindowSource:
    if job == "train-lm":
        size, scored = config.lm.context_tokens, config.lm.scored_tokens
        overlap = 0 if scored is None else max(size - 1 - scored, 0)
        return TokenWindows(documents, size, tokenizer.bos_id, tokenizer.eos_id, overlap)
    size = config.sllm.context_sentences
    scored = config.sllm.scored_sentences
    if job == "train-vae" or scored is None:
        return SentenceWindows(documents, size, tokenizer.bos_id, tokenizer.eos_id)
    # Of the context the decoder writes what its first layer sees; evaluation is exact.
    overlap, rows = max(size - scored, 0), max(config.vae.decoder_context_tokens - 1, 0)
    return SentenceWindows(documents, size, tokenizer.bos_id, tokenizer.eos_id, overlap, rows)


def check_tokenizer(model_path: str, model_config: PreTrainedConfig, shards: Shards) -> None:
    """Raise `ModelError` where a model was trained on shards of another tokenizer."""
    digest = getattr(model_config, "tokenizer_digest", None)
    if digest is not None and digest != shards.manifest.tokenizer_digest:
        raise ModelError(
            f"the model in {model_path} was trained with tokenizer {digest[:12]}, the shards in {shards.folder} "
            f"were made with {shards.manifest.tokenizer_digest[:12]}: prepare again with tokenizer.path={model_path}"
        )


def load_sllm_part(path: str | None, kind: type[PreTrainedModel], name: str) -> PreTrainedModel:
    """The SentenceVAE or SLLM in a folder. Raises `ConfigError` without a path, `ModelError` without a model."""
    if path is None:
        raise ConfigError(f"this job needs models.{name}=FOLDER, written by `sllm train-{name}`")
    if not (Path(path) / "config.json").is_file():
        raise ModelError(f"no model in {path!r} (models.{name}): no config.json there")
    model = AutoModel.from_pretrained(path)
    if not isinstance(model, kind):
        raise ModelError(f"models.{name}={path} holds a {type(model).__name__}, not a {kind.__name__}")
    return model


def sentence_limit(path: str, name: Literal["vae", "sllm"]) -> int:
    """Tokens after which the model in a folder ends each sentence, without its weights; raises as `load_sllm_part`."""
    if not (Path(path) / "config.json").is_file():
        raise ModelError(f"no model in {path!r} (models.{name}): no config.json there")
    config = AutoConfig.from_pretrained(path)
    of_vae = config.vae_config if isinstance(config, SllmModelConfig) and name == "sllm" else config
    if not isinstance(of_vae, SentenceVaeConfig):
        raise ModelError(
            f"models.{name}={path} holds a {config.model_type} model, not one of `sllm train-{name}`"
        )
    return of_vae.max_sentence_tokens


def _token_ids(shards: Shards) -> dict[str, int]:
    tokenizer = shards.tokenizer()
    return {
        "vocab_size": tokenizer.vocab_size,
        "bos_token_id": tokenizer.bos_id,
        "eos_token_id": tokenizer.eos_id,
    }


def max_positions(config: Config) -> int:
    """Positions that a trunk needs, as a token-level model and as a sentence-level one."""
    return max(config.lm.context_tokens, config.sllm.context_sentences + 1)


def _pretrained(config: Config) -> str | None:
    """Where weights may come from: the trained token-level model, else the pretrained one."""
    return config.models.lm or config.trunk.path


def _trunk_config(config: Config, shards: Shards, source: str | None) -> PreTrainedConfig:
    """Of the model in `source`, else a new one."""
    ids = _token_ids(shards)
    if source is None:
        return new_config(config.trunk, max_positions=max_positions(config), **ids)
    found = pretrained_config(source, config.trunk)
    check_tokenizer(source, found, shards)
    check_vocabulary(source, found, ids["vocab_size"])
    return found


def _build_lm(config: Config, shards: Shards) -> tuple[nn.Module, PreTrainedModel]:
    module = new_lm(config.trunk, max_positions=max_positions(config), **_token_ids(shards))
    module.model.config.tokenizer_digest = shards.manifest.tokenizer_digest
    return module, module.model


def _build_vae(config: Config, shards: Shards) -> tuple[nn.Module, PreTrainedModel]:
    vae = _new_vae(config, shards)
    return vae, vae


def _new_vae(config: Config, shards: Shards) -> SentenceVae:
    source = _pretrained(config)
    hidden_size = config.vae.hidden_size or _trunk_config(config, shards, source).hidden_size
    vae = SentenceVae(
        vae_model_config(
            config,
            hidden_size,
            **_token_ids(shards),
            max_sentence_tokens=max(limits(config).values()),
            tokenizer_digest=shards.manifest.tokenizer_digest,
            segmenter=shards.manifest.segmenter,
        )
    )
    if config.vae.init_from_lm and source is not None:
        embedding = token_vectors(load_causal_lm(source, config.trunk))
        if embedding.shape[1] == hidden_size:
            with torch.no_grad():
                vae.embedding.weight.copy_(embedding[: vae.config.vocab_size])
    return vae


def _build_sllm(config: Config, shards: Shards) -> tuple[nn.Module, PreTrainedModel]:
    if config.sllm.vae_from == "config":
        vae: PreTrainedModel = _new_vae(config, shards)
    else:
        vae = load_sllm_part(config.models.vae, SentenceVae, "vae")
        check_tokenizer(str(config.models.vae), vae.config, shards)
        for folder, limit in limits(config).items():
            check_longest(limit, vae.config.max_sentence_tokens, f"{folder} and models.vae: ")
        vae.config.segmenter = shards.manifest.segmenter
    sources = {"lm": config.models.lm, "path": config.trunk.path, "config": None}
    source = sources[config.sllm.trunk_from]
    if source is None and config.sllm.trunk_from != "config":
        key = {"lm": "models.lm=FOLDER", "path": "trunk.path=MODEL"}[config.sllm.trunk_from]
        raise ConfigError(
            f"sllm.trunk_from={config.sllm.trunk_from} needs {key}; or set sllm.trunk_from=config"
        )
    hf_config = _trunk_config(config, shards, source or _pretrained(config))
    sllm = Sllm(sllm_model_config(config, vae.config, hf_config))
    sllm.vae.load_state_dict(vae.state_dict())
    if source is not None:
        load_layers(sllm.trunk, load_causal_lm(source, config.trunk))
    choose_trained(sllm.trunk, config.sllm)
    return sllm, sllm
