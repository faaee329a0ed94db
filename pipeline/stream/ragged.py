"""Sequences of different lengths, concatenated, so that only attention computes padding.

Attention computes padded buckets of s sequences of similar length, l cells each; G cells in all.
"""

from dataclasses import dataclass
from functools import cached_property, lru_cache

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

BUCKET_GROWTH = 1.18
"""Sequences in one bucket differ in length by at most this factor, so that little of it is padding."""


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
    """Layout of S packed sequences: the offsets of their tokens, and their padded buckets for attention.

    Arrays of length S are made on the CPU and moved; arrays of length T or G are made on the layout's device when first
    needed. No size depends on data on a device, so there is no synchronisation.
    """

    lengths_S: Tensor
    """Tokens of each sequence."""
    starts_S: Tensor
    """First token of each sequence."""
    cells_S: Tensor
    """First cell of each sequence."""
    rank_S: Tensor
    """Index of each sequence in the order of the buckets."""
    buckets: tuple[tuple[int, int], ...]
    """Sequences s, and cells per sequence l, of each bucket."""
    num_tokens: int
    """T."""

    @property
    def num_sequences(self) -> int:
        """S."""
        return self.lengths_S.shape[0]

    @property
    def longest(self) -> int:
        """Tokens of the longest sequence; known on the CPU."""
        return max(length for _, length in self.buckets)

    @property
    def num_cells(self) -> int:
        """G."""
        return sum(sequences * length for sequences, length in self.buckets)

    @cached_property
    def sequence_T(self) -> Tensor:
        """Sequence that each token belongs to."""
        sequences = torch.arange(self.num_sequences, device=self.lengths_S.device)
        return sequences.repeat_interleave(self.lengths_S, output_size=self.num_tokens)

    @cached_property
    def positions_T(self) -> Tensor:
        """Position of each token in its sequence."""
        return self._index_T - self.starts_S.index_select(0, self.sequence_T)

    @cached_property
    def scatter_T(self) -> Tensor:
        """Cell of each token."""
        return self._index_T + (self.cells_S - self.starts_S).index_select(0, self.sequence_T)

    @cached_property
    def gathers(self) -> tuple[Tensor, ...]:
        """For each bucket the packed index of each cell [s, l]; padding has the index of the first token."""
        gather_G = torch.zeros(self.num_cells, dtype=torch.int64, device=self.lengths_S.device)
        return self._by_bucket(gather_G.scatter_(0, self.scatter_T, self._index_T))

    @cached_property
    def masks(self) -> tuple[Tensor, ...]:
        """For each bucket which cells hold a token [s, l]."""
        mask_G = torch.zeros(self.num_cells, dtype=torch.bool, device=self.lengths_S.device)
        return self._by_bucket(mask_G.scatter_(0, self.scatter_T, True))

    def to(self, device: torch.device | str) -> "RaggedLayout":
        """The same layout on another device."""
        lengths_S, starts_S, cells_S, rank_S = (
            x.to(device, non_blocking=True)
            for x in (self.lengths_S, self.starts_S, self.cells_S, self.rank_S)
        )
        return RaggedLayout(lengths_S, starts_S, cells_S, rank_S, self.buckets, self.num_tokens)

    def lengthened(self) -> "RaggedLayout":
        """The layout of the same sequences with one more token each."""
        return RaggedLayout(
            self.lengths_S + 1,
            self.starts_S + torch.arange(self.num_sequences, device=self.starts_S.device),
            self.cells_S + self.rank_S,
            self.rank_S,
            tuple((sequences, length + 1) for sequences, length in self.buckets),
            self.num_tokens + self.num_sequences,
        )

    @cached_property
    def _index_T(self) -> Tensor:
        return torch.arange(self.num_tokens, device=self.lengths_S.device)

    def _by_bucket(self, x_G: Tensor) -> tuple[Tensor, ...]:
        parts = x_G.split([sequences * length for sequences, length in self.buckets])
        return tuple(part.view(bucket) for part, bucket in zip(parts, self.buckets, strict=True))


def ragged_layout(lengths_S: NDArray[np.integer]) -> RaggedLayout:
    """The layout of sequences of these lengths (each at least 1). It is made on the CPU."""
    lengths_S = np.asarray(lengths_S, np.int64)
    assert lengths_S.ndim == 1 and len(lengths_S) > 0 and lengths_S.min() > 0
    ends_S = np.cumsum(lengths_S)
    bucket_S = _bucket_of_length(_power_of_two(int(lengths_S.max())))[lengths_S]
    order = np.argsort(bucket_S, kind="stable")
    sizes = np.bincount(bucket_S)
    sizes = sizes[sizes > 0]
    firsts = np.cumsum(sizes) - sizes
    longest = np.maximum.reduceat(lengths_S[order], firsts)
    width_S = np.repeat(longest, sizes)
    cells_S = np.empty_like(lengths_S)
    cells_S[order] = np.cumsum(width_S) - width_S
    rank_S = np.empty_like(lengths_S)
    rank_S[order] = np.arange(len(order))
    return RaggedLayout(
        torch.from_numpy(lengths_S),
        torch.from_numpy(ends_S - lengths_S),
        torch.from_numpy(cells_S),
        torch.from_numpy(rank_S),
        tuple(zip(sizes.tolist(), longest.tolist(), strict=True)),
        int(ends_S[-1]),
    )


def _power_of_two(n: int) -> int:
    """Next power of two, so that few tables are made."""
    return 1 << (n - 1).bit_length()
