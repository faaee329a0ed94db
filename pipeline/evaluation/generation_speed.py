"""Speed of generation without a prompt, and FLOPs per generated token."""

import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import torch

from pipeline.config import GenerateConfig
from pipeline.evaluation.flops import flops_of
from pipeline.generation.generate import Decoder, generate_documents
from pipeline.generation.sampling import Sampler
from pipeline.generation.token_lm import generate_tokens
from pipeline.models.sllm import Sllm
from pipeline.models.token_lm import TokenLm

Generator = Callable[[int, int], int]
"""Generates documents side by side: (documents, seed) -> number of tokens of all documents, without BOS and EOS."""


@dataclass(frozen=True)
class Speed:
    """Speed of documents generated side by side without a prompt."""

    batch: int
    tokens_per_second: float
    """Tokens/s of all documents together, without BOS, EOS and padding."""


def token_generator(
    model: TokenLm, num_tokens: int, context_tokens: int, bos_id: int, eos_id: int
) -> Generator:
    """Generates `num_tokens` tokens in each document, sampled at temperature 1."""

    def generate(batch: int, seed: int) -> int:
        sampler = Sampler(1.0, seed=seed)
        return generate_tokens(model, batch, num_tokens, context_tokens, bos_id, eos_id, sampler).numel()

    return generate


def sentence_generator(
    model: Sllm, num_tokens: int, decoder: Callable[[], Decoder] | None = None
) -> Generator:
    """Generates `num_tokens` tokens in each document, sampled at temperature 1; with a `decoder` anew each time."""

    def generate(batch: int, seed: int) -> int:
        config = GenerateConfig(max_tokens=num_tokens, max_sentences=num_tokens, temperature=1.0, seed=seed)
        own = None if decoder is None else decoder()
        generated = generate_documents(model, [[]] * batch, config, may_stop=False, decoder=own)
        return sum(len(sentence.token_ids) for _, sentence in generated)

    return generate


def measure_speeds(
    generators: Mapping[str, Generator], batch_sizes: Sequence[int], repeats: int
) -> dict[str, tuple[Speed, ...]]:
    """Median speed of each generator. They take turns, so that other load on the machine affects all of them."""
    seconds: dict[tuple[str, int], list[float]] = {}
    for repeat in range(repeats + 1):  # the first round warms up
        for batch in batch_sizes:
            for name, generate in generators.items():
                start = time.perf_counter()
                tokens = generate(batch, repeat)
                if torch.cuda.is_available():
                    torch.cuda.synchronize()
                if repeat:
                    seconds.setdefault((name, batch), []).append((time.perf_counter() - start) / tokens)
    return {
        name: tuple(Speed(batch, 1 / statistics.median(seconds[name, batch])) for batch in batch_sizes)
        for name in generators
    }


def generation_flops_per_token(generate: Generator) -> float:
    """FLOPs per token in generating a single document."""
    tokens: list[int] = []
    flops = flops_of(lambda: tokens.append(generate(1, 0)))
    return flops / tokens[0]
