"""The two small networks of the learned segmenter, in numpy.

Both begin with the sum of four embeddings of a unit: its word, its last letters, its shape, the gap before it. Where
marks or line breaks are near, few places are possible: a window of units around each goes through a perceptron. In
text without any (speech transcripts, subtitles), every word may begin a sentence and only the words tell: three
convolutions look at all of them.

Shape suffixes: U units of a batch, M places, N units looked at, E width of the embedding, H hidden.
"""

import dataclasses
import math

import numpy as np
from numpy.typing import NDArray

from segmenters.learned.features import Units

UNKNOWN_WORD = 1
FIRST_WORD = 2
"""Rows of a word table: 0 padding, 1 any word out of the vocabulary, then one a bucket."""
LEAK = 0.1
"""Slope of the hidden units below 0: none of them dies on rare boundaries."""
_ROWS = 2**10  # places looked at together: their windows fit the processor's cache

Floats = NDArray[np.float32]


def word_rows(word_U: NDArray[np.uint64], check_V: NDArray[np.uint16]) -> NDArray[np.int64]:
    """Row of the word table for each word hash: its bucket's where the check agrees, else `UNKNOWN_WORD`."""
    bucket_U = (word_U & np.uint64(len(check_V) - 1)).astype(np.int64)
    known_U = check_V[bucket_U] == word_check(word_U, len(check_V))
    return np.where(known_U, bucket_U + FIRST_WORD, UNKNOWN_WORD)


def word_check(word_U: NDArray[np.uint64], num_buckets: int) -> NDArray[np.uint16]:
    """The bits of a word hash above those of its bucket; 0, which marks an empty bucket, becomes 1."""
    return np.maximum((word_U >> np.uint64(int(math.log2(num_buckets)))).astype(np.uint16), 1)


@dataclasses.dataclass(frozen=True)
class Embedding:
    """What a unit is to a network."""

    word_VE: Floats
    suffix_SE: Floats
    shape_E: Floats
    gap_E: Floats

    @property
    def width(self) -> int:
        """E."""
        return self.word_VE.shape[1]

    def __call__(self, row: Units, word_U: NDArray[np.int64], index: NDArray[np.int64] | slice) -> Floats:
        """Embeddings `[N, E]` of the units at `index`; 0 for padding."""
        unit_NE = self.word_VE[word_U[index]]
        unit_NE += self.suffix_SE[row.suffix_U[index] % np.uint64(len(self.suffix_SE))]
        unit_NE += self.shape_E[row.shape_U[index]]
        unit_NE += self.gap_E[row.gap_U[index]]
        unit_NE[row.start_U[index] < 0] = 0
        return unit_NE


@dataclasses.dataclass(frozen=True)
class MarkedNet:
    """For text with marks: a perceptron over a window of units and the densities around it."""

    embedding: Embedding
    layers: tuple[tuple[Floats, Floats], ...]
    """Matrix and bias of each layer; the first takes the window's units and the densities."""
    before: int
    """Units of the window before the place."""
    after: int
    """Units of the window behind it."""

    def logits(
        self, row: Units, word_U: NDArray[np.int64], density_UF: Floats, place_M: NDArray[np.int64]
    ) -> Floats:
        """Log-odds `[M]` that a sentence begins at each of the units `place_M`."""
        if not len(place_M):
            return np.empty(0, np.float32)
        unit_UE = self.embedding(row, word_U, slice(None))
        windows = _windows(unit_UE, self.before + self.after)
        logits = np.empty(len(place_M), np.float32)
        for low in range(0, len(place_M), _ROWS):
            part = place_M[low : low + _ROWS]
            (first, bias), *rest = self.layers
            hidden = windows[part - self.before] @ first[: windows.shape[1]]
            hidden += density_UF[part] @ first[windows.shape[1] :] + bias
            for matrix, bias in rest:
                hidden = _leaky(hidden) @ matrix + bias
            logits[low : low + _ROWS] = hidden[:, 0]
        return logits


@dataclasses.dataclass(frozen=True)
class Convolution:
    """`x + leaky(convolution(norm(x)))` along the units; norm is over the hidden units of each."""

    norm: tuple[Floats, Floats]
    """Scale and shift `[H]`."""
    matrix: Floats
    """`[K * H, H]`: the kernel, place by place."""
    bias: Floats

    @property
    def reach(self) -> int:
        """Units seen on each side."""
        return (len(self.matrix) // self.matrix.shape[1] - 1) // 2

    def __call__(self, x_NH: Floats, real_N1: Floats) -> Floats:
        """`[N, H]` -> `[N, H]`; padding stays 0."""
        wide = np.pad(_normed(x_NH, *self.norm), ((self.reach, self.reach), (0, 0)))
        change_NH = _windows(wide, 2 * self.reach + 1) @ self.matrix + self.bias
        return (x_NH + _leaky(change_NH)) * real_N1


@dataclasses.dataclass(frozen=True)
class UnmarkedNet:
    """For text without marks: convolutions over all units."""

    embedding: Embedding
    inner: tuple[Floats, Floats]
    """From the embedding to H."""
    convolutions: tuple[Convolution, ...]
    norm: tuple[Floats, Floats]
    outer: tuple[Floats, Floats]
    """From H to the log-odds."""

    def logits(self, row: Units, word_U: NDArray[np.int64], place_M: NDArray[np.int64]) -> Floats:
        """Log-odds `[M]` that a sentence begins at each of the units `place_M`, in order."""
        reach = sum(convolution.reach for convolution in self.convolutions)
        near = np.zeros(len(word_U) + 1, np.int32)
        np.add.at(near, np.maximum(place_M - reach, 0), 1)
        np.add.at(near, np.minimum(place_M + reach + 1, len(word_U)), -1)
        # Everything that a place sees, end to end: only what no place asks for sees over the joints.
        index_N = np.flatnonzero(np.cumsum(near[:-1]) > 0)
        wanted_M = np.searchsorted(index_N, place_M)
        logits = np.empty(len(place_M), np.float32)
        for low in range(0, len(index_N), _ROWS):
            first, last = np.searchsorted(wanted_M, [low, low + _ROWS])
            if first < last:
                start = max(low - reach, 0)
                logit_N = self._logits(row, word_U, index_N[start : low + _ROWS + reach])
                logits[first:last] = logit_N[wanted_M[first:last] - start]
        return logits

    def _logits(self, row: Units, word_U: NDArray[np.int64], index_N: NDArray[np.int64]) -> Floats:
        real_N1 = (row.start_U[index_N] >= 0).astype(np.float32)[:, None]
        x_NH = (self.embedding(row, word_U, index_N) @ self.inner[0] + self.inner[1]) * real_N1
        for convolution in self.convolutions:
            x_NH = convolution(x_NH, real_N1)
        return (_normed(x_NH, *self.norm) @ self.outer[0] + self.outer[1])[:, 0]


def _windows(x_NH: Floats, size: int) -> Floats:
    """View `[N - size + 1, size * H]` of every run of `size` rows."""
    num_rows, width = x_NH.shape
    return np.lib.stride_tricks.as_strided(
        x_NH,
        (max(num_rows - size + 1, 0), size * width),
        (x_NH.strides[0], x_NH.strides[1]),
        writeable=False,
    )


def _leaky(x: Floats) -> Floats:
    return np.maximum(x, x * np.float32(LEAK))


def _normed(x_NH: Floats, scale_H: Floats, shift_H: Floats) -> Floats:
    centred = x_NH - x_NH.mean(1, keepdims=True)
    spread = np.sqrt(np.mean(centred * centred, 1, keepdims=True) + np.float32(1e-5))
    return centred / spread * scale_H + shift_H
