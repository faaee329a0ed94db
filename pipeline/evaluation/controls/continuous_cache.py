"""A continuous cache at test time (arXiv 1612.04426), for token-level and sentence-level models alike.

The model's probability of a target is mixed with that of a cache of the document's last positions: each holds the input
of the LM head there, and the target that followed. Its share in the mixture and the sharpness of its softmax are fitted
two-fold: on every other document, and used on the rest.
"""

import itertools
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from pipeline.evaluation.likelihood import nll_by_token
from pipeline.evaluation.scoring import Float64, score_sentences, score_tokens
from pipeline.models.sllm import Sllm
from pipeline.models.token_lm import TokenLm
from pipeline.stream.batches import IGNORED, SentenceBatch, TokenBatch
from pipeline.stream.order import MicroBatch, in_order
from pipeline.stream.windows import Int64, SentenceWindows, TokenWindows

SHARPNESS = (2.0, 4.0, 8.0, 16.0, 32.0, 64.0)
"""Scales of the dot products of two positions, divided by the mean square of the LM head's input."""
SHARES = np.linspace(0.0, 0.95, 96)
"""Shares of the cache in the mixture."""
QUERIES = 256
"""Positions that are computed together."""


@dataclass(frozen=True)
class ScoredPositions:
    """All R positions in the loss, document after document, in their order."""

    document_R: Int64
    target_R: Int64
    nll_R: Float64
    """Nats, of the target alone."""
    is_certain_R: NDArray[np.bool_]
    """Where the target is certain by the model's construction; no cache changes that."""
    hidden_RH: NDArray[np.float32]
    """Input of the LM head; 4 bytes per position and unit of width are in memory."""
    rest_N: Float64
    """Nats of each document that are no choice among tokens: the decisions to go on or to stop."""


def fitted_nll(scored: ScoredPositions, cache_tokens: int) -> Float64:
    """NLL (nats) of each document [N] with a cache of `cache_tokens` positions; two numbers fitted two-fold.

    Without documents to fit on, or where it does not help, the cache's share is 0.
    """
    num_documents = len(scored.rest_N)
    nll_CSN = np.zeros((len(SHARPNESS), len(SHARES), num_documents))
    is_choice_R = ~scored.is_certain_R
    for sharpness, cache_R in enumerate(_cache_probabilities(scored, cache_tokens)):
        model_R = np.exp(-scored.nll_R)
        for share, weight in enumerate(SHARES):
            mixed_R = -np.log((1 - weight) * model_R + weight * cache_R)
            mixed_R = np.where(is_choice_R, mixed_R, scored.nll_R)
            nll_CSN[sharpness, share] = np.bincount(scored.document_R, mixed_R, num_documents)
    fold_N = np.arange(num_documents) % 2
    found_N = np.empty(num_documents)
    for fold in (0, 1):
        fitted_on = nll_CSN[:, :, fold_N != fold].sum(-1)
        best = np.unravel_index(int(fitted_on.argmin()), fitted_on.shape)
        found_N[fold_N == fold] = nll_CSN[best][fold_N == fold]
    return found_N + scored.rest_N


@torch.inference_mode()
def _cache_probabilities(scored: ScoredPositions, cache_tokens: int) -> list[Float64]:
    """The cache's probability of each target, for each of `SHARPNESS`; an empty cache gives the model's own."""
    hidden_RH, target_R = torch.from_numpy(scored.hidden_RH), torch.from_numpy(scored.target_R)
    scale = 1.0 / max(float(hidden_RH.square().sum(1).mean()), 1e-30) if len(hidden_RH) else 1.0
    found = [np.exp(-scored.nll_R) for _ in SHARPNESS]
    starts = np.searchsorted(scored.document_R, np.arange(len(scored.rest_N) + 1))
    for start, end in itertools.pairwise(starts.tolist()):
        for first in range(start + 1, end, QUERIES):
            last = min(first + QUERIES, end)
            oldest = max(start, first - cache_tokens)
            distance_QK = torch.arange(first, last)[:, None] - torch.arange(oldest, last - 1)
            hides_QK = (distance_QK < 1) | (distance_QK > cache_tokens)
            dots_QK = hidden_RH[first:last] @ hidden_RH[oldest : last - 1].T * scale
            dots_QK.masked_fill_(hides_QK, -torch.inf)
            hits_QK = target_R[first:last, None] == target_R[oldest : last - 1]
            for each, sharpness in zip(found, SHARPNESS, strict=True):
                weights_QK = (dots_QK * sharpness).softmax(1)
                each[first:last] = (weights_QK * hits_QK).sum(1).double().numpy()
    return found


def scored_positions(
    model: TokenLm | Sllm, source: TokenWindows | SentenceWindows, micro_batch_tokens: int
) -> tuple[Float64, ScoredPositions]:
    """NLL of each document token [T], as `token_lm_nll_by_token` and `sllm_nll_by_token` give it, and all positions."""
    head = model.vae.head if isinstance(model, Sllm) else model.model.get_output_embeddings()
    assert isinstance(head, torch.nn.Module)
    rest_N = np.zeros(len(source.documents.num_bytes_N))
    parts: list[tuple[Any, ...]] = []
    micro_batches = in_order(source, micro_batch_tokens)
    with _inputs_of(head) as inputs:

        def observe(
            plan: MicroBatch, batch: TokenBatch | SentenceBatch, nll: Tensor, stop_nll_S: Tensor | None
        ) -> None:
            hidden_RH = torch.cat([x.flatten(0, -2) for x in inputs]).float().cpu().numpy()
            inputs.clear()
            if isinstance(batch, TokenBatch):
                parts.append(_of_tokens(nll, batch, hidden_RH, source, plan))
                return
            assert isinstance(model, Sllm) and stop_nll_S is not None
            kept_S = batch.decoded.in_loss_S.cpu().numpy()
            document_S = batch.document_D[batch.decoded.window_S].cpu().numpy()[kept_S]
            np.add.at(rest_N, document_S, stop_nll_S.double().cpu().numpy()[kept_S])
            parts.append(_of_sentences(nll, batch, hidden_RH, source, plan, model))

        if isinstance(model, Sllm):
            assert isinstance(source, SentenceWindows)
            scores = score_sentences(model, source, micro_batches, observe=observe)
        else:
            assert isinstance(source, TokenWindows)
            scores = score_tokens(model, source, micro_batches, observe)
        nll_T = nll_by_token(source.documents, scores)
    joined = [np.concatenate(x) for x in zip(*parts, strict=True)]
    order = np.lexsort((joined[1], joined[0]))
    documents, _, targets, nll, certain, hidden = (each[order] for each in joined)
    return nll_T, ScoredPositions(documents, targets, nll, certain, hidden, rest_N)


def _of_tokens(
    nll_DL: Tensor, batch: TokenBatch, hidden_RH: NDArray[np.float32], source: Any, plan: MicroBatch
) -> tuple[Any, ...]:
    kept_DL = (batch.targets_DL != IGNORED).cpu().numpy()
    shape = kept_DL.shape
    start_D = source.windows.start_W[plan.windows]
    place_DL = start_D[:, None] + np.arange(shape[1])
    document_DL = np.broadcast_to(batch.document_D.cpu().numpy()[:, None], shape)
    return (
        document_DL[kept_DL],
        place_DL[kept_DL],
        batch.targets_DL.cpu().numpy()[kept_DL],
        nll_DL.double().cpu().numpy()[kept_DL],
        np.zeros(int(kept_DL.sum()), bool),
        hidden_RH[kept_DL.flatten()],
    )


def _of_sentences(
    nll_R: Tensor,
    batch: SentenceBatch,
    hidden_RH: NDArray[np.float32],
    source: Any,
    plan: MicroBatch,
    model: Sllm,
) -> tuple[Any, ...]:
    decoded = batch.decoded
    sentence_R = decoded.positions.sequence_T
    kept_R = decoded.in_loss_S[sentence_R].cpu().numpy()
    window_R = decoded.window_S[sentence_R]
    first_R = source.windows.start_W[plan.windows][window_R.cpu().numpy()]
    limit = model.vae.config.max_sentence_tokens
    position_R = decoded.positions.positions_T.cpu().numpy()
    place_R = (first_R + decoded.index_S[sentence_R].cpu().numpy()) * (limit + 1) + position_R
    return (
        batch.document_D[window_R].cpu().numpy()[kept_R],
        place_R[kept_R],
        decoded.targets_R.cpu().numpy()[kept_R],
        nll_R.double().cpu().numpy()[kept_R],
        position_R[kept_R] == limit,
        hidden_RH[kept_R],
    )


@contextmanager
def _inputs_of(head: torch.nn.Module) -> Iterator[list[Tensor]]:
    """What the head is given to compute logits from, one tensor per call; not the ids whose vectors it gives."""
    inputs: list[Tensor] = []

    def keep(_: torch.nn.Module, given: tuple[Tensor, ...]) -> None:
        if given[0].is_floating_point():
            inputs.append(given[0].detach())

    handle = head.register_forward_pre_hook(keep)
    try:
        yield inputs
    finally:
        handle.remove()
