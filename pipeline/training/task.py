"""The task of each training job: its model, its windows of the shards, and how its weights are saved."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from pipeline.config import Config, StreamConfig, TrainConfig
from pipeline.errors import ConfigError, ModelError, ShardError
from pipeline.models.attention.chunks import chunk_memory
from pipeline.models.build import build_lm, build_sllm, build_vae
from pipeline.models.model_folder import with_local_models
from pipeline.models.sentence_vae import SentenceVae
from pipeline.models.sllm import Sllm
from pipeline.models.token_lm import TokenLm
from pipeline.models.tokenizer_agreement import check_mixed
from pipeline.models.trunk import merge_adapters
from pipeline.shards.documents import Documents
from pipeline.shards.format import SplitName
from pipeline.shards.reading import Shards, mixing_weights, open_shards
from pipeline.stream.order import Corpus
from pipeline.stream.windows import SentenceWindows, TokenWindows, WindowSource
from pipeline.tokenization.tokenizer import Tokenizer

TrainingJob = Literal["train-lm", "train-vae", "train-sllm"]


@dataclass(frozen=True)
class Task:
    """A model and the data to train it on."""

    module: nn.Module
    """Returns sums for a batch; `objective` is minimised."""
    model: PreTrainedModel
    """The part of `module` that is saved."""
    tokenizer: Tokenizer
    train: Sequence[Corpus]
    dev: Sequence[Corpus] | None
    stream: StreamConfig = field(default_factory=StreamConfig)

    def save(self, folder: Path, weights: dict[str, Tensor]) -> None:
        """Write a folder from which the model can be loaded: configuration, weights in their shapes, tokenizer."""
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


def build_task(job: TrainingJob, config: Config, read_weights: bool = True) -> Task:
    """The task of a training job; the same weights on every rank. Raises `ConfigError`, `ShardError`, `ModelError`.

    Without `read_weights` its model is on the meta device: it is checked, and cannot be trained.
    """
    config = with_local_models(config, _models_read(job, config))
    shards = _open(job, config)[0]
    torch.manual_seed(train_config(job, config).seed)
    builders: dict[TrainingJob, Callable[[Config, Shards, bool], TokenLm | SentenceVae | Sllm]] = {
        "train-lm": build_lm,
        "train-vae": build_vae,
        "train-sllm": build_sllm,
    }
    module = builders[job](config, shards, read_weights)
    model = module.model if isinstance(module, TokenLm) else module
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


def _models_read(job: TrainingJob, config: Config) -> list[str]:
    """The models that the task of a job is built from: those of later jobs of a run are not there yet."""
    own = job.removeprefix("train-")
    if job != "train-vae" and getattr(config.models, own) is not None:
        return [own]
    is_staged = job == "train-sllm" and config.sllm.vae_from == "vae"
    is_path_used = config.models.lm is None or (job == "train-sllm" and config.sllm.trunk_from == "path")
    return [own, "lm", *(["vae"] if is_staged else []), *(["trunk"] if is_path_used else [])]


def corpora(job: TrainingJob, config: Config, split: SplitName) -> list[Corpus]:
    """The data of a training job from one split. Raises as `build_task`."""
    mixed = _open(job, config)
    tokenizer = mixed[0].tokenizer()
    return [
        Corpus(
            np.array([record.tokens for record in one.records(split)], np.int64),
            lambda index, one=one: _windows(job, config, one.documents(split, index), tokenizer),  # type: ignore[misc]
            lambda index, one=one: one.fetch_ahead(split, index),  # type: ignore[misc]
            weight,
            one.finish_verifying,
        )
        for one, weight in zip(mixed, mixing_weights(mixed, config.stream.weights), strict=True)
        if split == "train" or one.manifest.totals[split].tokens
    ]


def _open(job: TrainingJob, config: Config) -> list[Shards]:
    if not config.shard_folders:
        raise ConfigError(f"{job} needs shards=FOLDER, written by `sllm prepare`")
    mixed = [open_shards(folder, config.stream) for folder in config.shard_folders]
    check_mixed(mixed)
    for one in mixed:
        if not one.manifest.totals["train"].tokens:
            raise ShardError(
                f"shards {one.folder!r} have no text to train on: all their documents are in the dev split"
            )
    return mixed


def recompute_activations(model: PreTrainedModel) -> None:
    """Let each layer keep only its inputs and recompute the rest in the backward pass, with the same dropout.

    Non-reentrant, as ZeRO requires where a layer is used twice. Raises `ModelError` for a model without support.
    """
    enable = getattr(model, "activation_checkpointing_enable", None) or model.gradient_checkpointing_enable
    try:
        enable({"use_reentrant": False})
    except ValueError as error:
        raise ModelError(f"train.activation_checkpointing: {error}") from error


def _windows(job: TrainingJob, config: Config, documents: Documents, tokenizer: Tokenizer) -> WindowSource:
    if job == "train-lm":
        size, in_loss = config.lm.context_tokens, config.lm.loss_tokens
        overlap = 0 if in_loss is None else max(size - 1 - in_loss, 0)
        memory = chunk_memory(config.lm, size)
        return TokenWindows(documents, size, tokenizer.bos_id, tokenizer.eos_id, overlap, memory)
    size = config.sllm.context_sentences
    in_loss = config.sllm.loss_sentences
    if job == "train-vae" or in_loss is None:
        return SentenceWindows(documents, size, tokenizer.bos_id, tokenizer.eos_id)
    # In training the decoder computes only the context that its first layer attends to; evaluation is exact.
    overlap, positions = max(size - in_loss, 0), max(config.vae.decoder_window - 1, 0)
    if config.sllm.state_attention_sentences is not None:  # the decoder reads all of the context
        return SentenceWindows(documents, size, tokenizer.bos_id, tokenizer.eos_id, overlap)
    return SentenceWindows(documents, size, tokenizer.bos_id, tokenizer.eos_id, overlap, positions)
