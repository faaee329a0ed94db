"""The cost of training and generation with a configuration on a machine, computed from models on the meta device."""

import dataclasses
from typing import Any

from pipeline.config import Config, TrainConfig
from pipeline.errors import ConfigError
from pipeline.evaluation.flops import (
    Model,
    context_bytes_per_token,
    long_generation_flops,
    model_parts,
    num_parameters,
    training_flops,
)
from pipeline.evaluation.gpu_memory import STAGES, activation_bytes, training_memory
from pipeline.evaluation.workload import Workload
from pipeline.models.build import build_lm, build_sllm, build_vae, untrained
from pipeline.models.model_folder import with_local_models
from pipeline.models.sentence_vae import SentenceVae
from pipeline.models.token_lm import TokenLm
from pipeline.shards.reading import open_shards

DEVICES = {
    "h200": (989e12, 4.8e12),
    "h100": (989e12, 3.35e12),
    "a100": (312e12, 2.0e12),
    "l40s": (362e12, 0.864e12),
    "l4": (121e12, 0.3e12),
    "v100": (125e12, 0.9e12),
    "cpu": (1e11, 2e10),
}
"""Peak FLOP/s in bf16 (V100: fp16) without sparsity, and bytes/s of memory, from the vendors' data sheets; `cpu` is a
guess for two cores in fp32."""


@dataclasses.dataclass(frozen=True)
class Machine:
    """The machine that the models run on."""

    num_gpus: int
    peak: float
    """Peak FLOP/s of one device."""
    utilisation: float
    """Share of the peak that training reaches."""
    bandwidth: float
    """Bytes/s of the memory of one device."""


def machine(num_gpus: int, device: str, peak: float | None, utilisation: float) -> Machine:
    """A machine from the table; `peak`, if given, replaces its peak. Raises `ConfigError` for an unknown device."""
    if device not in DEVICES:
        raise ConfigError(f"unknown --device {device!r}; known are {', '.join(DEVICES)}")
    known, bandwidth = DEVICES[device]
    return Machine(num_gpus, peak or known, utilisation, bandwidth)


def costs(config: Config, on: Machine, tokens_per_sentence: float) -> dict[str, Any]:
    """All figures, for JSON: parameters, FLOPs, memory, speed and days of each model.

    `tokens_per_sentence`: mean. Raises `ModelError`, `ShardError` where the models do not fit the shards.
    """
    shards = open_shards(config.shard_folders[0], config.stream) if config.shard_folders else None
    fresh = with_local_models(untrained(config), ["trunk"])
    models: dict[str, tuple[Model, TrainConfig]] = {
        "lm": (build_lm(fresh, shards, read_weights=False), config.lm.train),
        "vae": (build_vae(fresh, shards, read_weights=False), config.vae.train),
        "sllm": (build_sllm(fresh, shards, read_weights=False), config.sllm.train),
    }
    context_tokens = config.sllm.context_sentences * tokens_per_sentence
    figures = {
        name: _figures(config, model, train, on, tokens_per_sentence, context_tokens)
        for name, (model, train) in models.items()
    }
    given = {"tokens_per_sentence": tokens_per_sentence, "context_tokens": context_tokens}
    return {**dataclasses.asdict(on), "precision": config.precision, **given, "models": figures}


def _figures(
    config: Config,
    model: Model,
    train: TrainConfig,
    on: Machine,
    tokens_per_sentence: float,
    context_tokens: float,
) -> dict[str, Any]:
    value = 4 if config.precision == "fp32" else 2
    work = _micro_batch(config, model, train, tokens_per_sentence)
    flops = training_flops(model_parts(model), work) / work.loss_tokens
    speed = on.num_gpus * on.peak * on.utilisation / flops
    tokens = float(train.steps * train.micro_batches_per_step * train.micro_batch_tokens)
    activations = activation_bytes(model, work, config.precision)
    figures: dict[str, Any] = {
        "parameters": num_parameters(model),
        "trained_parameters": num_parameters(model, trained=True),
        "training_flops_per_token": flops,
        "training_tokens": tokens,
        "training_tokens_per_second": speed,
        "training_days": tokens / speed / 86_400,
        "memory_per_gpu": {
            str(stage): dataclasses.asdict(
                training_memory(model, stage, on.num_gpus, config.precision, activations)
            )
            for stage in STAGES
        },
    }
    if not isinstance(model, SentenceVae):  # which generates nothing by itself
        # Generation of one text is bound by memory: each weight, key and value is read once per 2 FLOPs.
        own = config.lm.context_tokens if isinstance(model, TokenLm) else round(context_tokens)
        flops_per_token = long_generation_flops(model, tokens_per_sentence, own)
        context = context_bytes_per_token(model, tokens_per_sentence, value)
        figures |= {
            "context_tokens": own,
            "generation_flops_per_token": flops_per_token,
            "generated_tokens_per_second": on.bandwidth / (value * flops_per_token / 2),
            "context_bytes_per_token": context,
        }
    return figures


def _micro_batch(config: Config, model: Model, train: TrainConfig, tokens_per_sentence: float) -> Workload:
    """A typical micro-batch: full windows of sentences of mean length."""
    if isinstance(model, TokenLm):
        size = config.lm.context_tokens
        in_loss = min(config.lm.loss_tokens or size, size)
        windows = max(train.micro_batch_tokens // in_loss, 1)
        context = size - in_loss
        return Workload.of_tokens([min(size, train.micro_batch_tokens + context)] * windows, context)
    size = in_loss = config.sllm.context_sentences
    if not isinstance(model, SentenceVae):
        in_loss = min(config.sllm.loss_sentences or size, size)
    sentences = max(round(train.micro_batch_tokens / tokens_per_sentence), 1)
    full, rest = divmod(sentences, in_loss)
    sizes = [size] * full + [rest + size - in_loss] * (rest > 0)
    contexts = [size - in_loss] * len(sizes)
    window, reads_itself = config.vae.decoder_window, config.sllm.state_attention_sentences is not None
    reach = size * round(tokens_per_sentence + 1) if reads_itself else max(window - 1, 0)
    return Workload.of_sentences(
        [tokens_per_sentence] * sum(sizes),
        sizes,
        contexts,
        decoder_window=window,
        decoded_context_positions=reach,  # as in `train-sllm`
    )
