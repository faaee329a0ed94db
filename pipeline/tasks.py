"""What each training job trains: its model, its windows of the shards, and how its weights are kept."""

import copy
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor, nn
from transformers import AutoConfig, AutoModel, PreTrainedConfig, PreTrainedModel

from pipeline.batches import SentenceWindows, TokenWindows, WindowSource
from pipeline.config import Config, TrainConfig
from pipeline.errors import ConfigError, ModelError
from pipeline.lm import load_causal_lm, new_lm, trunk_config
from pipeline.shards import Documents, Shards, open_shards
from pipeline.sllm import Sllm, SllmModelConfig
from pipeline.tokens import Tokenizer
from pipeline.vae import SentenceVae, SentenceVaeConfig

TrainingJob = Literal["train-lm", "train-vae", "train-sllm"]


@dataclass(frozen=True)
class Task:
    """A model to train, and on what."""

    module: nn.Module
    """Called with a batch, gives sums; `objective` is minimised."""
    model: PreTrainedModel
    """The part of `module` that is kept."""
    tokenizer: Tokenizer
    train: WindowSource
    dev: WindowSource | None

    def save(self, folder: Path, weights: dict[str, Tensor]) -> None:
        """Write a folder that the model can be rebuilt from alone: configuration, safetensors, tokenizer."""
        prefix = "model." if self.module is not self.model else ""
        own = {name.removeprefix(prefix): value for name, value in weights.items()}
        self.model.save_pretrained(folder, state_dict=own)
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
    if config.shards is None:
        raise ConfigError(f"{job} needs shards=FOLDER, written by `sllm prepare`")
    shards = open_shards(config.shards)
    torch.manual_seed(train_config(job, config).seed)
    builders: dict[TrainingJob, Callable[[Config, Shards], tuple[nn.Module, PreTrainedModel]]] = {
        "train-lm": _build_lm,
        "train-vae": _build_vae,
        "train-sllm": _build_sllm,
    }
    module, model = builders[job](config, shards)
    tokenizer = shards.tokenizer()

    dev = shards.documents("dev")
    return Task(
        module=module,
        model=model,
        tokenizer=tokenizer,
        train=windows(job, config, shards.documents("train"), tokenizer),
        dev=windows(job, config, dev, tokenizer) if dev.num_documents else None,
    )


def windows(job: TrainingJob, config: Config, documents: Documents, tokenizer: Tokenizer) -> WindowSource:
    """The windows that a training job sees of documents."""
    if job == "train-lm":
        return TokenWindows(documents, config.lm.context_tokens, tokenizer.bos_id, tokenizer.eos_id)
    size = config.sllm.context_sentences
    return SentenceWindows(documents, size, tokenizer.bos_id, tokenizer.eos_id)


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


def _token_ids(shards: Shards) -> dict[str, int]:
    tokenizer = shards.tokenizer()
    return {
        "vocab_size": tokenizer.vocab_size,
        "bos_token_id": tokenizer.bos_id,
        "eos_token_id": tokenizer.eos_id,
    }


def _max_positions(config: Config) -> int:
    return max(config.lm.context_tokens, config.sllm.context_sentences + 1)


def _trunk_config(config: Config, shards: Shards) -> PreTrainedConfig:
    """Of the trained token-level model where there is one, else a new one."""
    if config.models.lm is None:
        return trunk_config(config.trunk, max_positions=_max_positions(config), **_token_ids(shards))
    hf_config = AutoConfig.from_pretrained(config.models.lm, trust_remote_code=config.trunk.trust_remote_code)
    check_tokenizer(config.models.lm, hf_config, shards)
    return hf_config


def _build_lm(config: Config, shards: Shards) -> tuple[nn.Module, PreTrainedModel]:
    module = new_lm(config.trunk, max_positions=_max_positions(config), **_token_ids(shards))
    module.model.config.tokenizer_digest = shards.manifest.tokenizer_digest
    return module, module.model


def _build_vae(config: Config, shards: Shards) -> tuple[nn.Module, PreTrainedModel]:
    vae = _new_vae(config, shards)
    return vae, vae


def _new_vae(config: Config, shards: Shards) -> SentenceVae:
    options: dict[str, Any] = config.vae.model_dump(exclude={"hidden_size", "init_from_lm", "train"})
    hidden_size = config.vae.hidden_size or _trunk_config(config, shards).hidden_size
    vae = SentenceVae(
        SentenceVaeConfig(
            **(options | _token_ids(shards)),
            hidden_size=hidden_size,
            max_sentence_tokens=shards.manifest.max_sentence_tokens,
            tokenizer_digest=shards.manifest.tokenizer_digest,
            segmenter=shards.manifest.segmenter,
        )
    )
    if config.vae.init_from_lm and config.models.lm is not None:
        embedding: Any = load_causal_lm(config.models.lm, config.trunk).get_input_embeddings().weight
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
    if config.sllm.trunk_from == "lm" and config.models.lm is None:
        raise ConfigError("sllm.trunk_from=lm needs models.lm=FOLDER; or set sllm.trunk_from=config")
    hf_config = copy.deepcopy(_trunk_config(config, shards))
    hf_config._attn_implementation = config.trunk.attention or "sdpa"
    sllm = Sllm(
        SllmModelConfig(
            vae_config=vae.config,
            trunk_config=hf_config,
            context_sentences=config.sllm.context_sentences,
            freeze_vae=config.sllm.freeze_vae,
        )
    )
    sllm.vae.load_state_dict(vae.state_dict())
    if config.sllm.trunk_from == "lm":
        sllm.load_trunk(load_causal_lm(str(config.models.lm), config.trunk))
    return sllm, sllm
