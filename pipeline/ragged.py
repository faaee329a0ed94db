"""Sequences of different lengths laid end to end, so that no layer but attention ever sees padding.

Shape suffixes: T packed tokens, S sequences (sentences), H hidden size, A attention heads, K head size,
s x l one bucket of sequences of similar length, C the cells of all buckets, one after the other.
"""

from dataclasses import dataclass
from functools import cached_property, lru_cache

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from pipeline.precision import at_least_fp32

BUCKET_GROWTH = 1.18
"""Sequences in one attention bucket differ in length by at most this factor, so little of it is padding."""


@lru_cache(maxsize=8)
def _bucket_of_length(longest: int) -> NDArray[np.uint8]:
    """Bucket of each length from 0 to `longest`."""
    bounds = [2]
    while bounds[-1] < longest:
        bounds.append(max(bounds[-1] + 1, int(bounds[-1] * BUCKET_GROWTH)))
    assert len(bounds) < 256
    return np.searchsorted(bounds, np.arange(longest + 1)).astype(np.uint8)  # 8 bits sort in linear time


@dataclass(frozen=True)
class RaggedLayout:
    """Where the tokens of S packed sequences are, and how attention sees them as padded buckets."""

    positions_T: Tensor
    """Position of each token in its sequence."""
    sequence_T: Tensor
    """Sequence that each token belongs to."""
    lengths_S: Tensor
    """Tokens of each sequence."""
    buckets: tuple[tuple[int, int], ...]
    """Sequences s and cells a sequence l of each bucket."""
    gather_C: Tensor
    """Packed index of each cell; padding points at the first token."""
    mask_C: Tensor
    """Which cells hold a token."""
    scatter_T: Tensor
    """Cell of each token."""

    @property
    def num_sequences(self) -> int:
        """S."""
        return self.lengths_S.shape[0]

    @cached_property
    def gathers(self) -> tuple[Tensor, ...]:
        """`gather_C` as buckets [s, l]."""
        return self._by_bucket(self.gather_C)

    @cached_property
    def masks(self) -> tuple[Tensor, ...]:
        """`mask_C` as buckets [s, l]."""
        return self._by_bucket(self.mask_C)

    def _by_bucket(self, x_C: Tensor) -> tuple[Tensor, ...]:
        parts = x_C.split([sequences * length for sequences, length in self.buckets])
        return tuple(part.view(bucket) for part, bucket in zip(parts, self.buckets, strict=True))

    def to(self, device: torch.device | str) -> "RaggedLayout":
        """The same layout on another device."""

        def move(tensor: Tensor) -> Tensor:
            return tensor.to(device, non_blocking=True)

        return RaggedLayout(
            move(self.positions_T),
            move(self.sequence_T),
            move(self.lengths_S),
            self.buckets,
            move(self.gather_C),
            move(self.mask_C),
            move(self.scatter_T),
        )


def ragged_layout(lengths_S: NDArray[np.integer]) -> RaggedLayout:
    """The layout of sequences of these lengths (each at least 1). Made on the CPU, from lengths alone."""
    lengths_S = np.asarray(lengths_S, np.int64)
    assert lengths_S.ndim == 1 and len(lengths_S) > 0 and lengths_S.min() > 0
    sequence_T = np.repeat(np.arange(len(lengths_S)), lengths_S)
    index_T = np.arange(len(sequence_T))
    bucket_S = _bucket_of_length(_power_of_two(int(lengths_S.max())))[lengths_S]
    order = np.argsort(bucket_S, kind="stable")
    firsts = np.flatnonzero(np.diff(bucket_S[order], prepend=255))
    sizes = np.diff(firsts, append=len(order))
    longest = np.maximum.reduceat(lengths_S[order], firsts)
    ends = np.cumsum(np.repeat(longest, sizes))
    cell_S = np.empty_like(lengths_S)
    cell_S[order] = ends - np.repeat(longest, sizes)
    starts_S = np.cumsum(lengths_S) - lengths_S
    scatter_T = index_T + (cell_S - starts_S)[sequence_T]
    gather_C, mask_C = np.zeros(ends[-1], np.int64), np.zeros(ends[-1], bool)
    gather_C[scatter_T] = index_T
    mask_C[scatter_T] = True
    return RaggedLayout(
        torch.from_numpy(index_T - starts_S[sequence_T]),
        torch.from_numpy(sequence_T),
        torch.from_numpy(lengths_S),
        tuple(zip(sizes.tolist(), longest.tolist(), strict=True)),
        torch.from_numpy(gather_C),
        torch.from_numpy(mask_C),
        torch.from_numpy(scatter_T),
    )


def _power_of_two(n: int) -> int:
    """Next power of two, so that few tables are made."""
    return 1 << (n - 1).bit_length()


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
