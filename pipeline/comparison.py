"""What designs are compared by: quality, speed of writing, cost of training, memory of the context.

Speed is measured, bits per byte are exact likelihoods of the same documents, FLOPs are those that PyTorch runs.
"""

import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from itertools import islice
from typing import Any

import torch
from torch.utils.flop_counter import FlopCounterMode, sdpa_backward_flop_count, sdpa_flop_count
from transformers import PreTrainedConfig

from pipeline.batches import WindowSource
from pipeline.config import GenerateConfig, TrainConfig
from pipeline.generation import generate_documents
from pipeline.lm import TokenLm
from pipeline.sampling import Sampler
from pipeline.sllm import Sllm
from pipeline.stream import Stream, StreamState
from pipeline.token_generation import write_tokens


@dataclass(frozen=True)
class Speed:
    """Writing documents side by side from nothing."""

    batch: int
    tokens_per_second: float
    """Of all documents together; start, end marks and padding are not tokens."""
    flops_per_token: float
    """Matrix products and attention that were run, over tokens written."""


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
    ablations: Mapping[str, float] = field(default_factory=dict)
    """Bits per byte with the predicted latents replaced."""
    curve: tuple[float, ...] = ()
    """Bits per byte of tokens by their position in the document."""
    changed_from: str | None = None

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return asdict(self)


def steps_for(source: WindowSource, options: TrainConfig, tokens: float) -> int:
    """Optimizer steps after which training has seen `tokens` document tokens, at least one."""
    stream = Stream(source.tokens_W, source.length_W, options.micro_batch_tokens, options.seed)
    seen = steps = 0
    for plan, _ in stream.steps(StreamState(), options.micro_batches_per_step):
        seen, steps = seen + sum(micro_batch.tokens for micro_batch in plan), steps + 1
        if seen >= tokens:
            break
    return steps


def training_flops_per_token(module: torch.nn.Module, source: WindowSource, options: TrainConfig) -> float:
    """FLOPs of forward and backward pass over a few micro-batches of training, over their document tokens."""
    stream = Stream(source.tokens_W, source.length_W, options.micro_batch_tokens, options.seed)
    device = next(module.parameters()).device
    module.train()
    flops = tokens = 0
    for plan in islice(stream.epoch(0), 3):
        batch = source.batch(plan.windows).to(device)
        flops += flops_of(lambda: module(batch)["objective"].backward())  # noqa: B023
        tokens += plan.tokens
        module.zero_grad()
    module.eval()
    return flops / tokens


def flops_of(run: Callable[[], object]) -> int:
    """FLOPs of matrix products and attention that PyTorch runs in `run()`."""
    aten = torch.ops.aten
    # PyTorch's table lacks the CPU's own attention.
    on_cpu: dict[Any, Any] = {
        aten._scaled_dot_product_flash_attention_for_cpu: lambda q, k, v, *_, **__: sdpa_flop_count(q, k, v),
        aten._scaled_dot_product_flash_attention_for_cpu_backward: (
            lambda grad, q, k, v, *_, **__: sdpa_backward_flop_count(grad, q, k, v)
        ),
    }
    with FlopCounterMode(display=False, custom_mapping=on_cpu) as counter:
        run()
    return counter.get_total_flops()


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
    speeds = {}
    for name, writer in writers.items():
        of_batches = []
        for batch in batch_sizes:
            written: list[int] = []
            flops = flops_of(lambda: written.append(writer(batch, 0)))  # noqa: B023
            rate = 1 / statistics.median(seconds[name, batch])
            of_batches.append(Speed(batch, rate, flops / written[0]))
        speeds[name] = tuple(of_batches)
    return speeds


def token_writer(
    model: TokenLm, num_tokens: int, context_tokens: int, bos_id: int, eos_id: int
) -> Callable[[int, int], int]:
    """Writes `num_tokens` tokens in each document, drawn at temperature 1."""

    def write(batch: int, seed: int) -> int:
        sampler = Sampler(1.0, seed=seed)
        return write_tokens(model, batch, num_tokens, context_tokens, bos_id, eos_id, sampler).numel()

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
    if isinstance(model, TokenLm):
        per_token = size * _key_value_width(model.model.config)
        window = getattr(model.model.config, "sliding_window", None)
        return (0.0, float(per_token * window)) if window else (float(per_token), 0.0)
    vae = model.vae.config
    assert isinstance(model.trunk.config, PreTrainedConfig)
    width = _key_value_width(model.trunk.config) + vae.hidden_size
    window_bytes = size * 2 * vae.num_layers * vae.hidden_size * vae.decoder_context_tokens
    return size * width / tokens_per_sentence, float(window_bytes)


def _key_value_width(config: PreTrainedConfig) -> int:
    heads = getattr(config, "num_key_value_heads", None) or config.num_attention_heads
    head_size = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
    return 2 * config.num_hidden_layers * heads * head_size


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


def parameters_of(model: torch.nn.Module) -> int:
    """Parameters, tied ones once."""
    return sum(p.numel() for p in model.parameters())
