"""The two networks of the learned segmenter, in numpy.

Both take the sum of four embeddings per word: the word, its last letters, its shape, the gap before it. Where
punctuation or line breaks are near, few words can begin a sentence: a perceptron gets a window of words around each.
In unpunctuated text (speech transcripts, subtitles) every word is a candidate: three convolutions run over all words.

Shape suffixes: W words of a batch, M candidates, N selected words, E embedding width, H hidden width.
"""

import dataclasses
import math
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from segmenters.learned.features import Features

UNKNOWN_WORD = 1
FIRST_WORD = 2
"""Rows of a word table: 0 for padding, 1 for unknown words, then one per bucket."""
LEAK = 0.1
"""Slope of the leaky ReLU below 0, so that gradients do not vanish where boundaries are rare."""
_ROWS = 2**10  # windows computed together: they fit the processor's cache

Floats = NDArray[np.float32]
Product = Callable[[Floats, Floats], Floats]
_FINE_X, _FINE_MATRIX = 2.0**8, 2.0**16
"""Steps of 1 in `exact_product`."""


def exact_product(x: Floats, matrix: Floats) -> Floats:
    """`x @ matrix` in fixed point: equal on any machine, since no order of summation changes sums of whole numbers.

    They are exact below 2 ** 53: with 1,024 terms, values of `x` below 2 ** 10 and of the matrix below 2 ** 9.
    """
    whole = np.rint(x * _FINE_X).astype(np.float64) @ np.rint(matrix * _FINE_MATRIX).astype(np.float64)
    return (whole / (_FINE_X * _FINE_MATRIX)).astype(np.float32)


def word_rows(word_W: NDArray[np.uint64], check_V: NDArray[np.uint16]) -> NDArray[np.int64]:
    """Row of the word table for each word hash: that of its bucket if the check agrees, else `UNKNOWN_WORD`."""
    bucket_W = (word_W & np.uint64(len(check_V) - 1)).astype(np.int64)
    known_W = check_V[bucket_W] == word_check(word_W, len(check_V))
    return np.where(known_W, bucket_W + FIRST_WORD, UNKNOWN_WORD)


def word_check(word_W: NDArray[np.uint64], num_buckets: int) -> NDArray[np.uint16]:
    """The bits of each word hash above those of its bucket, [W]; 0, which stands for an empty bucket, becomes 1."""
    return np.maximum((word_W >> np.uint64(int(math.log2(num_buckets)))).astype(np.uint16), 1)


@dataclasses.dataclass(frozen=True)
class Embedding:
    """The embedding tables of a network."""

    word_VE: Floats
    suffix_SE: Floats
    shape_E: Floats
    gap_E: Floats

    @property
    def width(self) -> int:
        """E."""
        return self.word_VE.shape[1]

    def __call__(self, row: Features, word_W: NDArray[np.int64], index: NDArray[np.int64] | slice) -> Floats:
        """Embeddings `[N, E]` of the words at `index`; 0 for padding."""
        embedded_NE = self.word_VE[word_W[index]]
        embedded_NE += self.suffix_SE[row.suffix_W[index] % np.uint64(len(self.suffix_SE))]
        embedded_NE += self.shape_E[row.shape_W[index]]
        embedded_NE += self.gap_E[row.gap_W[index]]
        embedded_NE[row.start_W[index] < 0] = 0
        return embedded_NE


@dataclasses.dataclass(frozen=True)
class PunctuatedNet:
    """For punctuated text: a perceptron over a window of words and the densities around it."""

    embedding: Embedding
    layers: tuple[tuple[Floats, Floats], ...]
    """Matrix and bias of each layer; the first takes the window's embeddings and the densities."""
    before: int
    """Words of the window before the candidate."""
    after: int
    """Words of the window from the candidate on."""

    def logits(
        self, row: Features, word_W: NDArray[np.int64], density_WF: Floats, candidate_M: NDArray[np.int64]
    ) -> Floats:
        """Log-odds `[M]` that a sentence begins at each of the words `candidate_M`."""
        if not len(candidate_M):
            return np.empty(0, np.float32)
        embedded_WE = self.embedding(row, word_W, slice(None))
        wide = windows(embedded_WE, self.before + self.after)
        logits = np.empty(len(candidate_M), np.float32)
        for low in range(0, len(candidate_M), _ROWS):
            part = candidate_M[low : low + _ROWS]
            (first, bias), *rest = self.layers
            hidden = wide[part - self.before] @ first[: wide.shape[1]]
            hidden += density_WF[part] @ first[wide.shape[1] :] + bias
            for matrix, bias in rest:
                hidden = leaky(hidden) @ matrix + bias
            logits[low : low + _ROWS] = hidden[:, 0]
        return logits


@dataclasses.dataclass(frozen=True)
class Convolution:
    """`x + leaky(convolution(norm(x)))` along the words; a layer norm over H."""

    norm: tuple[Floats, Floats]
    """Scale and shift `[H]`."""
    matrix: Floats
    """`[K * H, H]`: the kernel of K words."""
    bias: Floats
    product: Product = np.matmul

    @property
    def reach(self) -> int:
        """Words on each side that the output of a word depends on."""
        return (len(self.matrix) // self.matrix.shape[1] - 1) // 2

    def __call__(self, x_NH: Floats, real_N1: Floats) -> Floats:
        """`[N, H]` -> `[N, H]`; padding stays 0."""
        wide = np.pad(_normed(x_NH, *self.norm), ((self.reach, self.reach), (0, 0)))
        change_NH = self.product(windows(wide, 2 * self.reach + 1), self.matrix) + self.bias
        return (x_NH + leaky(change_NH)) * real_N1


@dataclasses.dataclass(frozen=True)
class UnpunctuatedNet:
    """For unpunctuated text: convolutions over all words."""

    embedding: Embedding
    inner: tuple[Floats, Floats]
    """From the embedding to H."""
    convolutions: tuple[Convolution, ...]
    norm: tuple[Floats, Floats]
    outer: tuple[Floats, Floats]
    """From H to the log-odds."""
    product: Product = np.matmul

    def logits(self, row: Features, word_W: NDArray[np.int64], candidate_M: NDArray[np.int64]) -> Floats:
        """Log-odds `[M]` that a sentence begins at each of the words `candidate_M`, in order."""
        reach = sum(convolution.reach for convolution in self.convolutions)
        near = np.zeros(len(word_W) + 1, np.int32)
        np.add.at(near, np.maximum(candidate_M - reach, 0), 1)
        np.add.at(near, np.minimum(candidate_M + reach + 1, len(word_W)), -1)
        # The words within reach of a candidate, concatenated. Joints change only words that are no candidates.
        index_N = np.flatnonzero(np.cumsum(near[:-1]) > 0)
        wanted_M = np.searchsorted(index_N, candidate_M)
        logits = np.empty(len(candidate_M), np.float32)
        for low in range(0, len(index_N), _ROWS):
            first, last = np.searchsorted(wanted_M, [low, low + _ROWS])
            if first < last:
                start = max(low - reach, 0)
                logit_N = self._logits(row, word_W, index_N[start : low + _ROWS + reach])
                logits[first:last] = logit_N[wanted_M[first:last] - start]
        return logits

    def _logits(self, row: Features, word_W: NDArray[np.int64], index_N: NDArray[np.int64]) -> Floats:
        real_N1 = (row.start_W[index_N] >= 0).astype(np.float32)[:, None]
        x_NH = (self.product(self.embedding(row, word_W, index_N), self.inner[0]) + self.inner[1]) * real_N1
        for convolution in self.convolutions:
            x_NH = convolution(x_NH, real_N1)
        return (self.product(_normed(x_NH, *self.norm), self.outer[0]) + self.outer[1])[:, 0]


def windows(x_NH: Floats, size: int) -> Floats:
    """View `[N - size + 1, size * H]` of every window of `size` rows."""
    num_rows, width = x_NH.shape
    return np.lib.stride_tricks.as_strided(
        x_NH,
        (max(num_rows - size + 1, 0), size * width),
        (x_NH.strides[0], x_NH.strides[1]),
        writeable=False,
    )


def leaky(x: Floats) -> Floats:
    """The leaky ReLU."""
    return np.maximum(x, x * np.float32(LEAK))


def _normed(x_NH: Floats, scale_H: Floats, shift_H: Floats) -> Floats:
    centred = x_NH - x_NH.mean(1, keepdims=True)
    spread = np.sqrt(np.mean(centred * centred, 1, keepdims=True) + np.float32(1e-5))
    return centred / spread * scale_H + shift_H
