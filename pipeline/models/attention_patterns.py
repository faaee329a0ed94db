"""Which positions a position attends to: its own sentence, or the last positions of its document.

A block passes its queries, keys and values to a pattern. Training, evaluation and generation run the same blocks and
differ in the pattern only: one with a cache (`pipeline.generation.decoder_cache`) adds keys and values of earlier
positions.
"""

from typing import Protocol

import torch
from torch import Tensor
from torch.nn import functional as F

from pipeline.models.precision import at_least_fp32
from pipeline.stream.ragged import RaggedLayout


class AttentionPattern(Protocol):
    """Which keys each query attends to."""

    @property
    def positions_T(self) -> Tensor:
        """Position of each query, for rotary positions."""

    def attend(self, q_TAK: Tensor, k_TAK: Tensor, v_TAK: Tensor, layer: int) -> Tensor:
        """Scaled dot-product attention of a layer of the model -> [T, A, K]."""


class Sentences:
    """Each token attends to its own sentence: all of it, or (causal) itself and the tokens before it."""

    def __init__(self, layout: RaggedLayout, causal: bool) -> None:
        self.layout, self.causal = layout, causal
        self.positions_T = layout.positions_T

    def attend(self, q_TAK: Tensor, k_TAK: Tensor, v_TAK: Tensor, layer: int) -> Tensor:
        """Scaled dot-product attention -> [T, A, K]."""
        return ragged_attention(q_TAK, k_TAK, v_TAK, self.layout, self.causal)


class SlidingWindow:
    """Each position attends to itself and the `size` - 1 positions before it in the same document, across sentences.

    Positions are cut into C chunks of `size` (X); the queries of a chunk see its keys and those of the chunk before (Y
    = 2 X). So the cost is linear, only the last chunk is padded, and only the mask depends on documents.
    """

    def __init__(self, document_T: Tensor, size: int) -> None:
        """`document_T`: document of each position; those of one document follow each other."""
        self.size = size
        num_positions = len(document_T)
        index_T = torch.arange(num_positions, device=document_T.device)
        starts_T = torch.zeros_like(index_T)
        starts_T[1:] = torch.where(document_T[1:] != document_T[:-1], index_T[1:], 0)
        starts_T = starts_T.cummax(0).values
        self.positions_T = index_T - starts_T
        self.num_chunks = -(-num_positions // size)
        self.starts_T = starts_T
        """First position of each position's document."""
        self.first_T = torch.maximum(starts_T, index_T - size + 1)
        """First position of each position's window."""
        first_CX1 = self._chunks(self.first_T[:, None], self.num_chunks * size)
        queries_CX1 = self._chunks(index_T[:, None], 0)
        # Padding attends to all keys of its chunk, so that no softmax is empty; its output is dropped.
        chunk_starts_C1Y = torch.arange(self.num_chunks, device=index_T.device)[:, None, None] * size
        keys_C1Y = chunk_starts_C1Y + torch.arange(-size, size, device=index_T.device)
        padding_CX1 = first_CX1 > queries_CX1
        self.sees_CXY = (keys_C1Y >= first_CX1) & (keys_C1Y <= queries_CX1) | padding_CX1
        self._mask_C1XY: Tensor | None = None

    def attend(self, q_TAK: Tensor, k_TAK: Tensor, v_TAK: Tensor, layer: int) -> Tensor:
        """Scaled dot-product attention -> [T, A, K]."""
        q_CAXK = self._chunks(q_TAK, 0.0).transpose(1, 2)
        k_CAYK, v_CAYK = (self._seen(x) for x in (k_TAK, v_TAK))
        if self._mask_C1XY is None:  # one for all layers: with a boolean mask each layer would make it
            self._mask_C1XY = additive_mask(self.sees_CXY[:, None], q_TAK.dtype)
        out_CAXK = F.scaled_dot_product_attention(q_CAXK, k_CAYK, v_CAYK, attn_mask=self._mask_C1XY)
        return out_CAXK.transpose(1, 2).reshape(-1, *q_TAK.shape[1:])[: len(q_TAK)]

    def _chunks(self, x_T: Tensor, padding: float) -> Tensor:
        """[T, ...] -> [C, X, ...]."""
        missing = self.num_chunks * self.size - len(x_T)
        if missing:
            x_T = torch.cat([x_T, x_T.new_full((missing, *x_T.shape[1:]), padding)])
        return x_T.view(self.num_chunks, self.size, *x_T.shape[1:])

    def _seen(self, x_TAK: Tensor) -> Tensor:
        """What the queries of each chunk see [C, A, Y, K]: it, and the chunk before it."""
        x_CXAK = self._chunks(x_TAK, 0.0)
        before_CXAK = torch.cat([torch.zeros_like(x_CXAK[:1]), x_CXAK[:-1]])
        return torch.cat([before_CXAK, x_CXAK], dim=1).transpose(1, 2)


def additive_mask(sees: Tensor, dtype: torch.dtype) -> Tensor:
    """0 where a query sees a key, minus infinity where it does not; in the shape of `sees`."""
    return torch.zeros_like(sees, dtype=dtype).masked_fill_(~sees, -torch.inf)


def ragged_attention(
    q_TAK: Tensor, k_TAK: Tensor, v_TAK: Tensor, layout: RaggedLayout, causal: bool
) -> Tensor:
    """Self-attention inside each packed sequence -> [T, A, K]. Padding of a bucket never reaches a token."""
    outputs = []
    for gather_sl, mask_sl in zip(layout.gathers, layout.masks, strict=True):
        q, k, v = (x[gather_sl].transpose(1, 2) for x in (q_TAK, k_TAK, v_TAK))
        # Causal: padding is on the right, where no token attends.
        mask = None if causal else mask_sl[:, None, None, :]
        out = F.scaled_dot_product_attention(q, k, v, attn_mask=mask, is_causal=causal)
        outputs.append(out.transpose(1, 2).reshape(-1, *q_TAK.shape[1:]))
    return torch.cat(outputs)[layout.scatter_T]


def sum_sequences(x_TH: Tensor, layout: RaggedLayout) -> Tensor:
    """Sum over the tokens of each sequence -> [S, H], accumulated in fp32 or better."""
    wide_TH = at_least_fp32(x_TH)
    out_SH = wide_TH.new_zeros(layout.num_sequences, x_TH.shape[-1])
    return out_SH.index_add(0, layout.sequence_T, wide_TH)
