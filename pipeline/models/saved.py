"""Models that a job of ours saved in a folder: loaded with weights or on the meta device, and checked."""

from typing import Literal

from pydantic import ValidationError
from transformers import AutoModel, PreTrainedConfig

from pipeline.config import Config, Section, SllmConfig, VaeConfig
from pipeline.errors import ConfigError, ModelError, SllmError
from pipeline.models.model_folder import (
    Pretrained,
    check_folder,
    load_model,
    on_device,
    read_config,
    with_local_models,
)
from pipeline.models.sentence_vae import SentenceVae
from pipeline.models.sllm import Sllm, SllmModelConfig
from pipeline.models.tokenizer_agreement import check_model_tokenizer
from pipeline.models.trunk import check_positions, check_vocabulary
from pipeline.shards.reading import Shards


def saved_model(
    path: str | None, kind: type[Pretrained], name: Literal["vae", "sllm"], read_weights: bool = True
) -> Pretrained:
    """The SentenceVAE or SLLM in the folder `models.NAME`; without `read_weights` on the meta device.

    Raises `ConfigError` without a path, `ModelError` where the model is missing or damaged.
    """
    if path is None:
        raise ConfigError(f"this job needs models.{name}=FOLDER, written by `sllm train-{name}`")
    check_folder(path)
    found = read_config(path)
    if kind.config_class is None or not isinstance(found, kind.config_class):
        raise ModelError(f"models.{name}={path} has a {found.model_type!r}, not a {kind.__name__}")
    _check_values(path, found)
    if read_weights:
        model = load_model(AutoModel, path, kind.__name__)
        assert isinstance(model, kind)
        return model
    try:
        return on_device(lambda: kind(found), read_weights=False)
    except SllmError as error:
        raise ModelError(f"{path}/config.json is damaged: {error}") from error


def check_fits(path: str, found: PreTrainedConfig, shards: Shards | None) -> None:
    """Raise `ModelError` where a model has another tokenizer than the shards, or a smaller vocabulary."""
    if shards is not None:
        check_model_tokenizer(path, found, shards)
        check_vocabulary(path, found, shards.tokenizer().vocab_size)


def check_saved_models(config: Config, shards: Shards) -> None:
    """Raise `ModelError` where a model of `config.models` is missing, damaged, or has another tokenizer than the
    shards.

    Reads configurations, tokenizers and the headers of weights files, but no weights.
    """
    models = with_local_models(config).models
    if models.lm is not None:
        check_folder(models.lm)
        found = read_config(models.lm, config.trunk.trust_remote_code)
        check_fits(models.lm, found, shards)
        check_positions(models.lm, found, config.lm.context_tokens, "lm.context_tokens")
    if models.vae is not None:
        check_fits(models.vae, saved_model(models.vae, SentenceVae, "vae", read_weights=False).config, shards)
    if models.sllm is not None:
        check_fits(models.sllm, saved_model(models.sllm, Sllm, "sllm", read_weights=False).vae.config, shards)


def sentence_limit(path: str, name: Literal["vae", "sllm"]) -> int:
    """Longest sentence, in tokens, of the model in a folder. Reads no weights; raises as `saved_model`."""
    if name == "vae":
        return saved_model(path, SentenceVae, name, read_weights=False).config.max_sentence_tokens
    return saved_model(path, Sllm, name, read_weights=False).vae.config.max_sentence_tokens


def _check_values(path: str, found: PreTrainedConfig) -> None:
    """Raise `ModelError` where a saved option has a value that the configuration does not allow."""
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
