"""Sequences of different lengths laid end to end, so that no layer but attention ever sees padding.

Shape suffixes: T packed tokens, S sequences (sentences), H hidden size, A attention heads, K head size,
s x l one bucket of sequences of similar length.
"""

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from pipeline.precision import at_least_fp32

BUCKET_GROWTH = 1.25
"""Sequences in one attention bucket differ in length by at most this factor, so little of it is padding."""


@lru_cache(maxsize=8)
def _bucket_bounds(longest: int) -> NDArray[np.int64]:
    bounds = [2]
    while bounds[-1] < longest:
        bounds.append(max(bounds[-1] + 1, int(bounds[-1] * BUCKET_GROWTH)))
    return np.array(bounds)


@dataclass(frozen=True)
class RaggedLayout:
    """Where the tokens of S packed sequences are, and how attention sees them as padded buckets."""

    positions_T: Tensor
    """Position of each token in its sequence."""
    sequence_T: Tensor
    """Sequence that each token belongs to."""
    lengths_S: Tensor
    """Tokens of each sequence."""
    gathers: tuple[Tensor, ...]
    """For each bucket the packed index of each of its cells [s, l]; padding points at its sequence's start."""
    masks: tuple[Tensor, ...]
    """For each bucket which cells hold a token [s, l]."""
    scatter_T: Tensor
    """Cell of each token in the flattened, concatenated buckets."""

    @property
    def num_sequences(self) -> int:
        """S."""
        return self.lengths_S.shape[0]

    def to(self, device: torch.device | str) -> "RaggedLayout":
        """The same layout on another device."""

        def move(tensor: Tensor) -> Tensor:
            return tensor.to(device, non_blocking=True)

        return RaggedLayout(
            move(self.positions_T),
            move(self.sequence_T),
            move(self.lengths_S),
            tuple(map(move, self.gathers)),
            tuple(map(move, self.masks)),
            move(self.scatter_T),
        )


def ragged_layout(lengths_S: NDArray[np.integer]) -> RaggedLayout:
    """The layout of sequences of these lengths (each at least 1). Made on the CPU, from lengths alone."""
    lengths_S = np.asarray(lengths_S, np.int64)
    assert lengths_S.ndim == 1 and len(lengths_S) > 0 and lengths_S.min() > 0
    starts_S = np.cumsum(lengths_S) - lengths_S
    sequence_T = np.repeat(np.arange(len(lengths_S)), lengths_S)
    positions_T = np.arange(len(sequence_T)) - starts_S[sequence_T]
    scatter_T = np.empty(len(sequence_T), np.int64)
    bucket_S = np.searchsorted(_bucket_bounds(int(lengths_S.max())), lengths_S)
    gathers, masks, cells = [], [], 0
    for bucket in np.unique(bucket_S):
        members = np.flatnonzero(bucket_S == bucket)
        longest = int(lengths_S[members].max())
        columns = np.arange(longest)
        mask = columns < lengths_S[members, None]
        gather = starts_S[members, None] + np.where(mask, columns, 0)
        scatter_T[gather[mask]] = cells + np.flatnonzero(mask)
        cells += mask.size
        gathers.append(torch.from_numpy(gather))
        masks.append(torch.from_numpy(mask))
    return RaggedLayout(
        torch.from_numpy(positions_T),
        torch.from_numpy(sequence_T),
        torch.from_numpy(lengths_S),
        tuple(gathers),
        tuple(masks),
        torch.from_numpy(scatter_T),
    )


def ragged_attention(
    q_TAK: Tensor, k_TAK: Tensor, v_TAK: Tensor, layout: RaggedLayout, causal: bool
) -> Tensor:
    """Self-attention inside each packed sequence -> [T, A, K]. Padding of a bucket never reaches a token."""
    outputs = []
    for gather_sl, mask_sl in zip(layout.gathers, layout.masks, strict=True):
        q, k, v = (x[gather_sl].transpose(1, 2) for x in (q_TAK, k_TAK, v_TAK))
        # Causal: padding is on the right, where no token looks.
        mask = None if causal else mask_sl[:, None, None, :]
        out = F.scaled_dot_product_attention(q, k, v, attn_mask=mask, is_causal=causal)
        outputs.append(out.transpose(1, 2).reshape(-1, *q_TAK.shape[1:]))
    return torch.cat(outputs)[layout.scatter_T]


def sum_sequences(x_TH: Tensor, layout: RaggedLayout) -> Tensor:
    """Sum over the tokens of each sequence -> [S, H], accumulated in fp32 or better."""
    wide_TH = at_least_fp32(x_TH)
    out_SH = wide_TH.new_zeros(layout.num_sequences, x_TH.shape[-1])
    return out_SH.index_add(0, layout.sequence_T, wide_TH)
