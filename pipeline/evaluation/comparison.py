"""The figures of a comparison: bits per byte, speed of generation, FLOPs, memory of the context.

Bits per byte are exact likelihoods of the same documents, speed is measured, and FLOPs are those that PyTorch runs.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, cast

import numpy as np
import torch

from pipeline.config import Config, StreamConfig, TrainConfig
from pipeline.evaluation.ablations import Ablation, has_other_documents
from pipeline.evaluation.controls.continuous_cache import fitted_nll, scored_positions
from pipeline.evaluation.designs import TrainedDesign, model_of
from pipeline.evaluation.drafted_speed import DraftedSpeed, drafted_speeds
from pipeline.evaluation.flops import context_memory, num_parameters
from pipeline.evaluation.generation_speed import (
    Speed,
    generation_flops_per_token,
    measure_speeds,
    sentence_generator,
    token_generator,
)
from pipeline.evaluation.likelihood import (
    bits_per_byte_by_position,
    likelihood,
    likelihood_of_tokens,
    nll_by_document,
    select_documents,
    sllm_nll_by_token,
    token_lm_nll_by_token,
)
from pipeline.evaluation.scoring import Float64
from pipeline.evaluation.training_flops import training_flops_per_token
from pipeline.fetched import local_model
from pipeline.models.device import device_for, device_name
from pipeline.models.saved import saved_model
from pipeline.models.sllm import Sllm
from pipeline.models.token_lm import TokenLm, learned_positions, load_causal_lm
from pipeline.shards.reading import open_shards
from pipeline.stream.order import Corpus, Stream, StreamState
from pipeline.stream.windows import DocumentSource, SentenceWindows, TokenWindows
from pipeline.training.task import TrainingJob, build_task, train_config


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
    """Mean over seeds."""
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
    bits_by_seed: tuple[float, ...] = ()
    nll_by_document: tuple[float, ...] = ()
    """Nats of each document, mean over seeds."""
    cached_bits_per_byte: float | None = None
    """With a continuous cache at test time, mean over seeds."""
    cached_nll_by_document: tuple[float, ...] = ()
    controls: tuple[str, ...] = ()
    """Names of the designs that are its controls."""
    slides: bool = True
    """False for a token-level model with learned positions, which recomputes half of a full context."""
    drafted: DraftedSpeed | None = None
    """Speed of a single document with lossless speculation."""

    @property
    def fewest_bits_per_byte(self) -> float:
        """With or without a cache."""
        if self.cached_bits_per_byte is None:
            return self.bits_per_byte
        return min(self.bits_per_byte, self.cached_bits_per_byte)

    def speed(self, batch: int) -> float:
        """Tokens/s of documents side by side."""
        return next(speed.tokens_per_second for speed in self.speeds if speed.batch == batch)

    def fastest(self, batch: int) -> float:
        """Tokens/s of documents side by side; of a single one with drafts, where these are faster."""
        speed = self.speed(batch)
        return max(speed, self.drafted.tokens_per_second) if self.drafted and batch == 1 else speed

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
    config: Config,
    position_edges: Sequence[int],
    designs: Sequence[TrainedDesign],
    controls: Mapping[str, Sequence[str]],
    may_use_gpu: bool,
) -> Iterator[str | Measured]:
    """Measure all designs on the dev documents of `config.shards` -> the name of each measurement before it begins, and
    at the end their figures.

    Those of one name are one design with several seeds; all but bits per byte are measured on the first of them.
    """
    (folder,) = config.shard_folders
    shards = open_shards(folder, config.stream)
    device = device_for(may_use_gpu)
    by_name: dict[str, list[TrainedDesign]] = {}
    for each in designs:
        by_name.setdefault(each.name, []).append(each)
    designs = [seeds[0] for seeds in by_name.values()]
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
    drafted: dict[str, DraftedSpeed] = {}
    if 1 in config.compare.batch_sizes:
        drafted = drafted_speeds(
            cast(dict[str, TokenLm | Sllm], models),
            {each.name: each.config.lm.context_tokens for each in designs},
            num_tokens,
            (tokenizer.bos_id, tokenizer.eos_id),
            config.compare.repeats,
        )
    figures = []
    for each in designs:
        yield f"{each.variant.title}: bits per byte, FLOPs"
        model = cast(TokenLm | Sllm, models[each.name])
        own = open_shards(each.config.shard_folders[0], config.stream)
        documents = select_documents(own.documents("dev"), config.evaluate.max_documents)
        source = _windows(each, model, documents, (tokenizer.bos_id, tokenizer.eos_id))
        budget = config.evaluate.micro_batch_tokens
        nll_KT, cached_KN = [], []
        for seeded in by_name[each.name]:
            if seeded is not each:
                model = cast(TokenLm | Sllm, load_design(seeded).to(device).eval())
            if "continuous-cache" in config.compare.controls:
                nll_T, positions = scored_positions(model, source, budget)
                cached_KN.append(fitted_nll(positions, config.compare.cache_tokens))
            else:
                nll_T = _nll_by_token(model, source, budget)
            nll_KT.append(nll_T)
        nll_KN = [nll_by_document(documents, nll_T) for nll_T in nll_KT]
        model = cast(TokenLm | Sllm, models[each.name])
        bits = dict(_ablated_bits(each, config, source, model))
        mean_nll_N, mean_cached_N = np.mean(nll_KN, 0), np.mean(cached_KN, 0) if cached_KN else None
        totals = own.manifest.totals["train"]
        growing, fixed = context_memory(model, totals.tokens / totals.sentences)
        figures.append(
            DesignFigures(
                name=each.name,
                title=each.variant.title,
                kind="token-level" if each.is_token_level else "sentence-level",
                parameters=num_parameters(model),
                training_tokens=sum(record.metrics["train/tokens"] for record in each.records.values()),
                training_flops=_training_flops(each),
                bits_per_byte=likelihood(documents, mean_nll_N).bits_per_byte,
                context_bytes_per_token=growing,
                window_bytes=fixed,
                speeds=speeds[each.name],
                generation_flops_per_token=generation_flops_per_token(generators[each.name]),
                ablations=bits,
                curve=tuple(
                    bits_per_byte_by_position(documents, nll_KT[0], tokenizer.token_bytes, position_edges)
                ),
                changed_from=each.variant.changed_from,
                bits_by_seed=tuple(likelihood(documents, nll_N).bits_per_byte for nll_N in nll_KN),
                nll_by_document=tuple(mean_nll_N.tolist()),
                cached_bits_per_byte=(
                    None if mean_cached_N is None else likelihood(documents, mean_cached_N).bits_per_byte
                ),
                cached_nll_by_document=() if mean_cached_N is None else tuple(mean_cached_N.tolist()),
                controls=tuple(controls.get(each.name, ())),
                slides=not isinstance(model, TokenLm) or learned_positions(model.model) is None,
                drafted=drafted.get(each.name),
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


def beyond_frontier(point: DesignFigures, others: Sequence[DesignFigures], batch: int) -> bool:
    """Whether no token-level model is at least as good (fewest bits per byte, with a cache where that is known) and at
    least as fast; one document with drafts where these are faster."""
    speed = point.fastest(batch)
    return not any(
        other.fewest_bits_per_byte <= point.fewest_bits_per_byte and other.fastest(batch) >= speed
        for other in others
        if other.kind == "token-level" and other is not point
    )


def _windows(
    design: TrainedDesign, model: TokenLm | Sllm, documents: DocumentSource, bos_eos: tuple[int, int]
) -> TokenWindows | SentenceWindows:
    """The dev documents in windows that overlap by half."""
    if isinstance(model, TokenLm):
        context = design.config.lm.context_tokens
        overlap = min(context // 2, context - 2)
        return TokenWindows(documents, context, *bos_eos, overlap, model.memory(context))
    sentences = model.config.context_sentences
    return SentenceWindows(documents, sentences, *bos_eos, sentences // 2, model.decoder_reach)


def _nll_by_token(
    model: TokenLm | Sllm,
    source: TokenWindows | SentenceWindows,
    budget: int,
    ablation: Ablation = "none",
) -> Float64:
    if isinstance(model, TokenLm):
        assert isinstance(source, TokenWindows)
        return token_lm_nll_by_token(model, source, budget)
    assert isinstance(source, SentenceWindows)
    return sllm_nll_by_token(model, source, budget, ablation)


def _ablated_bits(
    design: TrainedDesign, config: Config, source: TokenWindows | SentenceWindows, model: TokenLm | Sllm
) -> Iterator[tuple[str, float]]:
    """Bits per byte under each `Ablation`."""
    if isinstance(model, TokenLm) or not config.evaluate.ablations:
        return
    ablations: list[Ablation] = (
        ["zeroed", "shuffled"] if has_other_documents(source.documents) else ["zeroed"]
    )
    # A decoder that was never trained as an autoencoder cannot use the encoder's latents.
    if "train-vae" in design.records:
        ablations.append("oracle")
    for ablation in ablations:
        nll_T = _nll_by_token(model, source, config.evaluate.micro_batch_tokens, ablation)
        yield ablation, likelihood_of_tokens(source.documents, nll_T).bits_per_byte


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
