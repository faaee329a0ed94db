"""Bytes that generation reads from memory: with the machine's bandwidth, a bound on its speed.

A pass reads each weight once for all documents that are generated side by side, and the keys and values of each. What
the caches of a processor keep between passes is not considered: the smallest model here has 100 MB.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch.nn import functional as F

from pipeline.evaluation.flops import context_bytes_per_token, model_parts
from pipeline.models.sllm import Sllm
from pipeline.models.token_lm import TokenLm


@dataclass(frozen=True)
class Reads:
    """Bytes per generated token of a single document."""

    weights: float
    context_per_token: float
    """For each token of context, as often as they are read per generated token."""

    def total(self, context_tokens: float, batch: int = 1) -> float:
        """Bytes per generated token of `batch` documents side by side that each have `context_tokens` tokens of
        context."""
        return self.weights / batch + self.context_per_token * context_tokens


def reads_per_token(
    model: TokenLm | Sllm, tokens_per_sentence: float, bytes_per_weight: int, bytes_per_value: int
) -> Reads:
    """Of a model, which may be on the meta device; sentences of `tokens_per_sentence` tokens and EOS.

    A sentence passes encoder and trunk once, and the decoder once for each token and EOS.
    """
    parts = model_parts(model)
    kept = context_bytes_per_token(model, tokens_per_sentence, bytes_per_value)
    if isinstance(model, TokenLm):
        return Reads(float(bytes_per_weight * sum(part.matrix_weights for part in parts)), kept)
    passes = {"decoder_positions": tokens_per_sentence + 1}
    weights = sum(part.matrix_weights * passes.get(part.positions, 1.0) for part in parts)
    return Reads(bytes_per_weight * weights / tokens_per_sentence, kept / tokens_per_sentence)


def memory_bandwidth(clock: Callable[[], float], repeats: int = 20) -> float:
    """Bytes/s that torch's threads read at most: the fastest of several products of a vector and an fp32 matrix of 128
    MiB."""
    matrix, vector = torch.ones(2**14, 2**11), torch.ones(1, 2**11)
    best = float("inf")
    for _ in range(repeats):
        start = clock()
        F.linear(vector, matrix)
        best = min(best, clock() - start)
    return 4 * matrix.numel() / best
