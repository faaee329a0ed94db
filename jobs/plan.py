"""`sllm plan`: what a configuration costs, before it is run."""

import dataclasses
import json
from typing import Any

from rich.console import Console
from rich.table import Table

from pipeline.config import Config, TrainConfig
from pipeline.errors import ConfigError
from pipeline.evaluation.flops import (
    Model,
    Workload,
    context_bytes_per_token,
    long_writing_flops,
    num_parameters,
    parts_of,
    training_flops,
)
from pipeline.evaluation.gpu_memory import STAGES, activation_bytes, training_memory
from pipeline.models.build import build_lm, build_sllm, build_vae, untrained
from pipeline.models.sentence_vae import SentenceVae
from pipeline.models.token_lm import TokenLm
from pipeline.shards.format import open_shards

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
    """What the models run on."""

    num_gpus: int
    peak: float
    """FLOP/s of one."""
    utilisation: float
    """Share of the peak that training gets."""
    bandwidth: float
    """Bytes/s of one's memory."""


def machine(num_gpus: int, device: str, peak: float | None, utilisation: float) -> Machine:
    """A machine from the table, `peak` in its place where given. Raises `ConfigError` for an unknown device."""
    if device not in DEVICES:
        raise ConfigError(f"unknown --device {device!r}; known are {', '.join(DEVICES)}")
    known, bandwidth = DEVICES[device]
    return Machine(num_gpus, peak or known, utilisation, bandwidth)


def plan(config: Config, on: Machine, tokens_per_sentence: float) -> dict[str, Any]:
    """All figures, for JSON: of each model its parameters, FLOPs, memory, speed and days."""
    shards = open_shards(config.shard_folders[0], config.stream) if config.shard_folders else None
    fresh = untrained(config)
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
    said = {"tokens_per_sentence": tokens_per_sentence, "context_tokens": context_tokens}
    return {**dataclasses.asdict(on), "precision": config.precision, **said, "models": figures}


def show(
    config: Config, on: Machine, tokens_per_sentence: float, as_json: bool, console: Console | None = None
) -> None:
    """Print the plan as tables, or as JSON."""
    report = plan(config, on, tokens_per_sentence)
    if as_json:
        print(json.dumps(report, indent=2))
        return
    console = console or Console()
    title = (
        f"{on.num_gpus} x {on.peak / 1e12:,.4g} TFLOP/s at {on.utilisation:.0%}, {config.precision}; "
        f"sentences of {tokens_per_sentence:g} tokens, context of {report['context_tokens']:,.0f}"
    )
    table = Table(title=title, title_justify="left")
    table.add_column("")
    models: dict[str, dict[str, Any]] = report["models"]
    for name in models:
        table.add_column(name, justify="right")
    for key, label, form in _ROWS:
        table.add_row(label, *(form(model[key]) if key in model else "" for model in models.values()))
    for stage in STAGES:
        cells = (f"{_total(model, stage) / 1e9:,.2f} GB" for model in models.values())
        table.add_row(f"memory a GPU, ZeRO {stage}", *cells)
    console.print(table)


def _total(model: dict[str, Any], stage: int) -> float:
    return sum(model["memory_per_gpu"][str(stage)].values())


_ROWS = (
    ("parameters", "parameters", "{:,.0f}".format),
    ("trained_parameters", "of them trained", "{:,.0f}".format),
    ("training_flops_per_token", "training FLOPs a token", "{:.3g}".format),
    ("training_tokens", "tokens in training", "{:.3g}".format),
    ("training_tokens_per_second", "training tokens/s", "{:,.0f}".format),
    ("training_days", "training days", "{:,.3g}".format),
    ("context_tokens", "context, tokens", "{:,.0f}".format),
    ("writing_flops_per_token", "FLOPs of a generated token", "{:.3g}".format),
    ("writing_tokens_per_second", "generated tokens/s, one text, at most", "{:,.0f}".format),
    ("context_bytes_per_token", "KB a token of context", lambda value: f"{value / 1e3:,.3g}"),
)


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
    flops = training_flops(parts_of(model), work) / work.loss_tokens
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
    if not isinstance(model, SentenceVae):  # which alone writes nothing
        # One text at a time is bound by reading memory: each weight, key and value once, for 2 FLOPs each.
        own = config.lm.context_tokens if isinstance(model, TokenLm) else round(context_tokens)
        writing = long_writing_flops(model, tokens_per_sentence, own)
        context = context_bytes_per_token(model, tokens_per_sentence, value)
        figures |= {
            "context_tokens": own,
            "writing_flops_per_token": writing,
            "writing_tokens_per_second": on.bandwidth / (value * writing / 2),
            "context_bytes_per_token": context,
        }
    return figures


def _micro_batch(config: Config, model: Model, train: TrainConfig, tokens_per_sentence: float) -> Workload:
    """A typical micro-batch: full windows of sentences that are all of mean length."""
    if isinstance(model, TokenLm):
        size = config.lm.context_tokens
        scored = min(config.lm.loss_tokens or size, size)
        rows = max(train.micro_batch_tokens // scored, 1)
        return Workload.of_rows([min(size, train.micro_batch_tokens + size - scored)] * rows, size - scored)
    size = scored = config.sllm.context_sentences
    if not isinstance(model, SentenceVae):
        scored = min(config.sllm.loss_sentences or size, size)
    sentences = max(round(train.micro_batch_tokens / tokens_per_sentence), 1)
    full, rest = divmod(sentences, scored)
    windows = [size] * full + [rest + size - scored] * (rest > 0)
    context = [size - scored] * len(windows)
    window = config.vae.decoder_window
    # What `train-sllm` has the decoder write of the context.
    rows = max(window - 1, 0)
    return Workload.of_sentences(
        [tokens_per_sentence] * sum(windows),
        windows,
        context,
        decoder_window=window,
        decoded_context_rows=rows,
    )
