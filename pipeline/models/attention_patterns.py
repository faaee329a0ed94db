"""Which packed rows a row may attend to: its own sentence, or the last rows of its document.

Shape suffixes: T packed rows, A attention heads, K head size, C chunks, W rows a chunk (the size of the window).
"""

from typing import Protocol

import torch
from torch import Tensor
from torch.nn import functional as F

from pipeline.models.ragged import RaggedLayout, ragged_attention


def additive_mask(sees: Tensor, dtype: torch.dtype) -> Tensor:
    """0 where attention sees, minus infinity where it does not."""
    return torch.zeros_like(sees, dtype=dtype).masked_fill_(~sees, -torch.inf)


class Pattern(Protocol):
    """What attention may see."""

    @property
    def positions_T(self) -> Tensor:
        """Position of each row among those it may be told apart from."""

    def attend(self, q_TAK: Tensor, k_TAK: Tensor, v_TAK: Tensor) -> Tensor:
        """Scaled dot-product attention -> [T, A, K]."""


class Sentences:
    """Each token sees its own sentence: all of it, or (causal) what stands before it."""

    def __init__(self, layout: RaggedLayout, causal: bool) -> None:
        self.layout, self.causal = layout, causal
        self.positions_T = layout.positions_T

    def attend(self, q_TAK: Tensor, k_TAK: Tensor, v_TAK: Tensor) -> Tensor:
        """Scaled dot-product attention -> [T, A, K]."""
        return ragged_attention(q_TAK, k_TAK, v_TAK, self.layout, self.causal)


class SlidingWindow:
    """Each row sees itself and the `size` - 1 rows before it in the same document, over the edges of sentences.

    Rows are cut into chunks of `size`; the queries of a chunk see its keys and those of the chunk before, so the
    cost is linear in the rows, there is no padding but in the last chunk, and the mask alone knows of documents.
    Keeps the keys and values of each attention in `seen` where it is told to, for a cache to go on from.
    """

    def __init__(self, document_T: Tensor, size: int, keep: bool = False) -> None:
        """`document_T`: document of each row, the rows of one document side by side."""
        self.size, self.keep = size, keep
        self.seen: list[tuple[Tensor, Tensor]] = []
        num_rows = len(document_T)
        rows_T = torch.arange(num_rows, device=document_T.device)
        starts_T = torch.zeros_like(rows_T)
        starts_T[1:] = torch.where(document_T[1:] != document_T[:-1], rows_T[1:], 0)
        starts_T = starts_T.cummax(0).values
        self.positions_T = rows_T - starts_T
        self.num_chunks = -(-num_rows // size)
        first_T = torch.maximum(starts_T, rows_T - size + 1)
        first_CW1 = self._chunks(first_T[:, None], self.num_chunks * size)
        queries_CW1 = self._chunks(rows_T[:, None], 0)
        # Rows past the end see all of their chunk's keys, so that no softmax is empty; what comes out is dropped.
        chunk_starts_C1L = torch.arange(self.num_chunks, device=rows_T.device)[:, None, None] * size
        keys_C1L = chunk_starts_C1L + torch.arange(-size, size, device=rows_T.device)
        padding_CW1 = first_CW1 > queries_CW1
        self.sees_CWL = (keys_C1L >= first_CW1) & (keys_C1L <= queries_CW1) | padding_CW1
        self._mask_C1WL: Tensor | None = None

    def attend(self, q_TAK: Tensor, k_TAK: Tensor, v_TAK: Tensor) -> Tensor:
        """Scaled dot-product attention -> [T, A, K]."""
        if self.keep:
            self.seen.append((k_TAK, v_TAK))
        q_CAWK = self._chunks(q_TAK, 0.0).transpose(1, 2)
        k_CALK, v_CALK = (self._with_chunk_before(self._chunks(x, 0.0)) for x in (k_TAK, v_TAK))
        if self._mask_C1WL is None:  # one for all layers: a mask of booleans is made into this in each
            self._mask_C1WL = additive_mask(self.sees_CWL[:, None], q_TAK.dtype)
        out_CAWK = F.scaled_dot_product_attention(q_CAWK, k_CALK, v_CALK, attn_mask=self._mask_C1WL)
        return out_CAWK.transpose(1, 2).reshape(-1, *q_TAK.shape[1:])[: len(q_TAK)]

    def _chunks(self, x_T: Tensor, padding: float) -> Tensor:
        """[T, ...] -> [C, W, ...]."""
        missing = self.num_chunks * self.size - len(x_T)
        if missing:
            x_T = torch.cat([x_T, x_T.new_full((missing, *x_T.shape[1:]), padding)])
        return x_T.view(self.num_chunks, self.size, *x_T.shape[1:])

    @staticmethod
    def _with_chunk_before(x_CWAK: Tensor) -> Tensor:
        """[C, W, A, K] -> [C, A, 2 W, K]."""
        before_CWAK = torch.cat([torch.zeros_like(x_CWAK[:1]), x_CWAK[:-1]])
        return torch.cat([before_CWAK, x_CWAK], dim=1).transpose(1, 2)
