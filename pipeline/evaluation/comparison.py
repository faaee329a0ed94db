"""The figures of a comparison: bits per byte, speed of generation, FLOPs, memory of the context.

Bits per byte are exact likelihoods of the same documents, speed is measured, and FLOPs are those that PyTorch runs.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from itertools import islice
from typing import Any, cast

import torch

from pipeline.config import Config, StreamConfig, TrainConfig
from pipeline.evaluation.ablations import Ablation, has_other_documents
from pipeline.evaluation.designs import TrainedDesign, model_of
from pipeline.evaluation.flops import context_bytes_per_token, num_parameters, training_flops_of
from pipeline.evaluation.generation_speed import (
    Speed,
    generation_flops_per_token,
    measure_speeds,
    sentence_generator,
    token_generator,
)
from pipeline.evaluation.likelihood import (
    bits_per_byte_by_position,
    likelihood_of_tokens,
    select_documents,
    sllm_nll_by_token,
    token_lm_nll_by_token,
)
from pipeline.evaluation.scoring import Float64
from pipeline.fetched import local_model
from pipeline.models.device import device_for, device_name
from pipeline.models.saved import saved_model
from pipeline.models.sllm import Sllm
from pipeline.models.token_lm import TokenLm, learned_positions, load_causal_lm
from pipeline.shards.reading import open_shards
from pipeline.stream.order import Corpus, Stream, StreamState
from pipeline.stream.windows import DocumentSource, SentenceWindows, TokenWindows
from pipeline.training.task import Task, TrainingJob, build_task, train_config


@dataclass(frozen=True)
class DesignFigures:
    """All figures of one design."""

    name: str
    title: str
    kind: str
    """`token-level` or `sentence-level`."""
    parameters: int
    training_tokens: float
    """Document tokens seen, in all stages."""
    training_flops: float
    """Forward and backward, in all stages."""
    bits_per_byte: float
    context_bytes_per_token: float
    """Memory that grows with the context: keys, values and latents, in the precision of the weights."""
    window_bytes: float
    """Memory that does not grow: keys and values of a sliding window."""
    speeds: tuple[Speed, ...]
    generation_flops_per_token: float
    """FLOPs of matrix products and attention in generating one document, divided by its tokens."""
    ablations: Mapping[str, float] = field(default_factory=dict)
    """Bits per byte with the predicted latents replaced."""
    curve: tuple[float, ...] = ()
    """Bits per byte of tokens by their position in the document."""
    changed_from: str | None = None
    slides: bool = True
    """False for a token-level model with learned positions, which recomputes half of a full context."""

    def as_dict(self) -> dict[str, Any]:
        """All figures for JSON, which has no NaN: null where a bin holds no tokens."""
        return asdict(self) | {"curve": [None if math.isnan(bits) else bits for bits in self.curve]}


def steps_for(corpora: Sequence[Corpus], options: TrainConfig, stream: StreamConfig, tokens: float) -> int:
    """Optimizer steps in which training processes `tokens` document tokens, at least one."""
    seen = steps = 0
    reading = Stream(corpora, options.micro_batch_tokens, options.seed, stream)
    for plan, _ in reading.steps(StreamState(), options.micro_batches_per_step):
        seen, steps = seen + sum(micro_batch.tokens for micro_batch in plan), steps + 1
        if seen >= tokens:
            break
    return steps


@dataclass(frozen=True)
class Measured:
    """The figures of all designs, and what they were measured on."""

    figures: list[DesignFigures]
    device: str
    """Name of the GPU, or `CPU`."""
    threads: int
    torch: str


def measure_designs(
    config: Config, position_edges: Sequence[int], designs: Sequence[TrainedDesign], may_use_gpu: bool
) -> Iterator[str | Measured]:
    """Measure all designs on the dev documents of `config.shards` -> the name of each measurement before it begins, and
    at the end their figures."""
    (folder,) = config.shard_folders
    shards = open_shards(folder, config.stream)
    documents = select_documents(shards.documents("dev"), config.evaluate.max_documents)
    device = device_for(may_use_gpu)
    models = {each.name: load_design(each).to(device).eval() for each in designs}
    tokenizer = shards.tokenizer()
    num_tokens = config.compare.generated_tokens
    generators = {
        each.name: token_generator(
            model, num_tokens, each.config.lm.context_tokens, tokenizer.bos_id, tokenizer.eos_id
        )
        if isinstance(model := models[each.name], TokenLm)
        else sentence_generator(cast(Sllm, model), num_tokens)
        for each in designs
    }
    yield "speed of generation"
    speeds = measure_speeds(generators, config.compare.batch_sizes, config.compare.repeats)
    totals = shards.manifest.totals["train"]
    figures = []
    for each in designs:
        yield f"{each.variant.title}: bits per byte, FLOPs"
        model = cast(TokenLm | Sllm, models[each.name])
        scores = dict(_nll_by_ablation(each, config, documents, (tokenizer.bos_id, tokenizer.eos_id), model))
        bits = {kind: likelihood_of_tokens(documents, nll_T).bits_per_byte for kind, nll_T in scores.items()}
        growing, fixed = context_memory(model, totals.tokens / totals.sentences)
        figures.append(
            DesignFigures(
                name=each.name,
                title=each.variant.title,
                kind="token-level" if each.is_token_level else "sentence-level",
                parameters=num_parameters(model),
                training_tokens=sum(record.metrics["train/tokens"] for record in each.records.values()),
                training_flops=_training_flops(each),
                bits_per_byte=bits.pop("none"),
                context_bytes_per_token=growing,
                window_bytes=fixed,
                speeds=speeds[each.name],
                generation_flops_per_token=generation_flops_per_token(generators[each.name]),
                ablations=bits,
                curve=tuple(
                    bits_per_byte_by_position(
                        documents, scores["none"], tokenizer.token_bytes, position_edges
                    )
                ),
                changed_from=each.variant.changed_from,
                slides=not isinstance(model, TokenLm) or learned_positions(model.model) is None,
            )
        )
    yield Measured(figures, device_name(device), torch.get_num_threads(), str(torch.__version__))


def load_design(design: TrainedDesign) -> torch.nn.Module:
    """The `TokenLm` or `Sllm` that is compared, from its folder, without gradients."""
    model: torch.nn.Module
    folder = local_model(design.folder, design.config.stream.cache)
    if design.is_token_level:
        model = TokenLm(load_causal_lm(folder, design.config.trunk))
    else:
        model = saved_model(folder, Sllm, "sllm")
    return model.requires_grad_(False)  # PyTorch's counter of FLOPs fails on inference tensors otherwise


def training_flops_per_token(task: Task, options: TrainConfig) -> float:
    """FLOPs per document token of forward and backward pass, over a few micro-batches of training."""
    reading = Stream(task.train, options.micro_batch_tokens, options.seed, task.stream)
    module = task.module.train()
    device = next(module.parameters()).device
    plans = [plan for plan, _ in islice(reading.micro_batches(StreamState()), 3)]
    flops = sum(training_flops_of(module, plan.batch().to(device)) for plan in plans)
    return flops / sum(plan.tokens for plan in plans)


def context_memory(model: TokenLm | Sllm, tokens_per_sentence: float) -> tuple[float, float]:
    """Bytes of keys, values and latents: per token of context, and in all for a sliding window."""
    size = next(model.parameters()).element_size()
    per_token = context_bytes_per_token(model, tokens_per_sentence, size)
    if isinstance(model, TokenLm):
        window = getattr(model.model.config, "sliding_window", None)
        return (0.0, per_token * window) if window else (per_token, 0.0)
    vae = model.vae.config
    return per_token, float(size * 2 * vae.num_layers * vae.hidden_size * vae.decoder_window)


def beyond_frontier(point: DesignFigures, others: Sequence[DesignFigures], batch: int) -> bool:
    """Whether no token-level model is at least as good (bits per byte) and at least as fast."""
    speed = _speed(point, batch)
    return not any(
        other.bits_per_byte <= point.bits_per_byte and _speed(other, batch) >= speed
        for other in others
        if other.kind == "token-level" and other is not point
    )


def _speed(figures: DesignFigures, batch: int) -> float:
    return next(speed.tokens_per_second for speed in figures.speeds if speed.batch == batch)


def _nll_by_ablation(
    design: TrainedDesign,
    config: Config,
    documents: DocumentSource,
    bos_eos: tuple[int, int],
    model: TokenLm | Sllm,
) -> Iterator[tuple[str, Float64]]:
    """NLL of each dev token [T], by `Ablation`; `none` is the unchanged model."""
    budget = config.evaluate.micro_batch_tokens
    if isinstance(model, TokenLm):
        context = design.config.lm.context_tokens
        source = TokenWindows(documents, context, *bos_eos, overlap=min(context // 2, context - 2))
        yield "none", token_lm_nll_by_token(model, source, budget)
        return
    sentences = model.config.context_sentences
    ablations: list[Ablation] = ["none"]
    if config.evaluate.ablations:
        ablations += ["zeroed", "shuffled"] if has_other_documents(documents) else ["zeroed"]
        # A decoder that was never trained as an autoencoder cannot use the encoder's latents.
        if "train-vae" in design.records:
            ablations.append("oracle")
    windows = SentenceWindows(documents, sentences, *bos_eos, sentences // 2, model.vae.decoder_reach)
    for ablation in ablations:
        yield ablation, sllm_nll_by_token(model, windows, budget, ablation)


def _training_flops(design: TrainedDesign) -> float:
    total = 0.0
    for verb, record in design.records.items():
        # Its own model is the result of training, not its start.
        models = design.config.models.model_copy(update={model_of(verb): None})
        own = design.config.model_copy(update={"models": models})
        job = cast(TrainingJob, verb)
        total += (
            training_flops_per_token(build_task(job, own), train_config(job, own))
            * record.metrics["train/tokens"]
        )
    return total
