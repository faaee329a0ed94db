"""What designs are compared by: quality, speed of writing, cost of training, memory of the context.

Speed is measured, bits per byte are exact likelihoods of the same documents, FLOPs are those that PyTorch runs.
"""

import math
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from itertools import islice
from typing import Any

import torch

from pipeline.config import GenerateConfig, StreamConfig, TrainConfig
from pipeline.evaluation.flops import context_bytes_per_token, flops_of, training_flops_of
from pipeline.generation.generate import generate_documents
from pipeline.generation.sampling import Sampler
from pipeline.generation.token_lm import generate_tokens
from pipeline.models.sllm import Sllm
from pipeline.models.token_lm import TokenLm
from pipeline.stream.order import Corpus, Stream, StreamState
from pipeline.training.task import Task


@dataclass(frozen=True)
class Speed:
    """Writing documents side by side from nothing."""

    batch: int
    tokens_per_second: float
    """Of all documents together; start, end marks and padding are not tokens."""


@dataclass(frozen=True)
class Measured:
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
    """What grows with the context: keys and values, and latents, in the weights' precision."""
    window_bytes: float
    """What does not grow: the keys and values of a sliding window."""
    speeds: tuple[Speed, ...]
    writing_flops_per_token: float
    """Matrix products and attention that were run to write one document, over its tokens."""
    ablations: Mapping[str, float] = field(default_factory=dict)
    """Bits per byte with the predicted latents replaced."""
    curve: tuple[float, ...] = ()
    """Bits per byte of tokens by their position in the document."""
    changed_from: str | None = None
    slides: bool = True
    """False for a token-level model with learned positions, which reads half of a full context again in writing."""

    def as_dict(self) -> dict[str, Any]:
        """For JSON, which knows no NaN: null where a bin holds no tokens."""
        return asdict(self) | {"curve": [None if math.isnan(bits) else bits for bits in self.curve]}


def steps_for(corpora: Sequence[Corpus], options: TrainConfig, stream: StreamConfig, tokens: float) -> int:
    """Optimizer steps after which training has seen `tokens` document tokens, at least one."""
    seen = steps = 0
    reading = Stream(corpora, options.micro_batch_tokens, options.seed, stream)
    for plan, _ in reading.steps(StreamState(), options.micro_batches_per_step):
        seen, steps = seen + sum(micro_batch.tokens for micro_batch in plan), steps + 1
        if seen >= tokens:
            break
    return steps


def training_flops_per_token(task: Task, options: TrainConfig) -> float:
    """FLOPs of forward and backward pass over a few micro-batches of training, over their document tokens."""
    reading = Stream(task.train, options.micro_batch_tokens, options.seed, task.stream)
    module = task.module.train()
    device = next(module.parameters()).device
    plans = [plan for plan, _ in islice(reading.micro_batches(StreamState()), 3)]
    flops = sum(training_flops_of(module, plan.batch().to(device)) for plan in plans)
    return flops / sum(plan.tokens for plan in plans)


def measure_speeds(
    writers: Mapping[str, Callable[[int, int], int]], batch_sizes: Sequence[int], repeats: int
) -> dict[str, tuple[Speed, ...]]:
    """Speed of each writer (batch, seed -> tokens written). They take turns, so that a busy moment hits all."""
    seconds: dict[tuple[str, int], list[float]] = {}
    for repeat in range(repeats + 1):  # the first round warms up
        for batch in batch_sizes:
            for name, writer in writers.items():
                start = time.perf_counter()
                tokens = writer(batch, repeat)
                if torch.cuda.is_available():
                    torch.cuda.synchronize()
                if repeat:
                    seconds.setdefault((name, batch), []).append((time.perf_counter() - start) / tokens)
    return {
        name: tuple(Speed(batch, 1 / statistics.median(seconds[name, batch])) for batch in batch_sizes)
        for name in writers
    }


def writing_flops_per_token(writer: Callable[[int, int], int]) -> float:
    """FLOPs that `writer` (batch, seed -> tokens written) runs for one document, over its tokens."""
    written: list[int] = []
    flops = flops_of(lambda: written.append(writer(1, 0)))
    return flops / written[0]


def token_writer(
    model: TokenLm, num_tokens: int, context_tokens: int, bos_id: int, eos_id: int
) -> Callable[[int, int], int]:
    """Writes `num_tokens` tokens in each document, drawn at temperature 1."""

    def write(batch: int, seed: int) -> int:
        sampler = Sampler(1.0, seed=seed)
        return generate_tokens(model, batch, num_tokens, context_tokens, bos_id, eos_id, sampler).numel()

    return write


def sentence_writer(model: Sllm, num_tokens: int) -> Callable[[int, int], int]:
    """Writes `num_tokens` tokens in each document, drawn at temperature 1."""

    def write(batch: int, seed: int) -> int:
        config = GenerateConfig(max_tokens=num_tokens, max_sentences=num_tokens, temperature=1.0, seed=seed)
        written = generate_documents(model, [[]] * batch, config, may_stop=False)
        return sum(len(sentence.token_ids) for _, sentence in written)

    return write


def context_memory(model: TokenLm | Sllm, tokens_per_sentence: float) -> tuple[float, float]:
    """Bytes of keys, values and latents: a token of context, and in all for a sliding window."""
    size = next(model.parameters()).element_size()
    per_token = context_bytes_per_token(model, tokens_per_sentence, size)
    if isinstance(model, TokenLm):
        window = getattr(model.model.config, "sliding_window", None)
        return (0.0, per_token * window) if window else (per_token, 0.0)
    vae = model.vae.config
    return per_token, float(size * 2 * vae.num_layers * vae.hidden_size * vae.decoder_window)


def beyond_frontier(point: Measured, others: Sequence[Measured], batch: int) -> bool:
    """Whether no token-level model is both as good (bits per byte) and as fast."""
    speed = _speed(point, batch)
    return not any(
        other.bits_per_byte <= point.bits_per_byte and _speed(other, batch) >= speed
        for other in others
        if other.kind == "token-level" and other is not point
    )


def _speed(measured: Measured, batch: int) -> float:
    return next(speed.tokens_per_second for speed in measured.speeds if speed.batch == batch)
