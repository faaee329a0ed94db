"""The network for Chinese and Japanese without marks: a window of characters, each with the runs that end there.

All products are exact, so answers are the same on any machine and in any batch.

Shape suffixes: W words (one ideograph, or a run of letters), V buckets, E embedding width, H hidden width.
"""

import dataclasses

import numpy as np
from numpy.typing import NDArray

from segmenters.learned.features import PADDING
from segmenters.learned.networks import UNKNOWN_WORD, Floats, exact_product, leaky, windows, word_rows

_ROWS = 2**10  # windows computed together: they fit the processor's cache
_FACTOR, _MIXER = np.uint64(0x9E3779B97F4A7C15), np.uint64(0xBF58476D1CE4E5B9)
GRAMS = 3
"""Longest run of words that has an embedding."""

Hashes = NDArray[np.uint64]


def grams(word_W: Hashes) -> list[Hashes]:
    """Hashes of the word, and of the runs of 2 and 3 words that end with it; 0 for padding."""
    found = [word_W]
    for _ in range(GRAMS - 1):
        longer_W = np.roll(found[-1], 1) * _FACTOR + word_W
        longer_W = (longer_W ^ (longer_W >> np.uint64(30))) * _MIXER
        found.append(np.where(word_W > 0, longer_W ^ (longer_W >> np.uint64(27)), np.uint64(0)))
    return found


def rows_of(word_W: Hashes, checks: tuple[NDArray[np.uint16], ...]) -> NDArray[np.int64]:
    """`[W, GRAMS]` rows of the tables: 0 for padding, 1 for unknown runs."""
    return np.stack(
        [
            np.where(word_W > 0, word_rows(hash_W, check_V), 0)
            for hash_W, check_V in zip(grams(word_W), checks, strict=True)
        ],
        axis=1,
    )


@dataclasses.dataclass(frozen=True)
class IdeographNet:
    """Log-odds that a sentence begins with a word, from the words within reach."""

    checks: tuple[NDArray[np.uint16], ...]
    """For each length of a run its buckets (`word_rows`)."""
    tables: tuple[Floats, ...]
    """`[V + 2, E]` for each length."""
    layers: tuple[tuple[Floats, Floats], ...]
    """Matrix and bias: of the window `[K * E, H]`, then two more."""
    shift: float
    """Added to the log-odds."""

    def __post_init__(self) -> None:
        if self.reach > PADDING or len(self.layers[0][0]) % self.tables[0].shape[1]:
            raise ValueError("the window of ideographs does not fit")

    @property
    def reach(self) -> int:
        """Words on each side that are seen."""
        return (len(self.layers[0][0]) // self.tables[0].shape[1] - 1) // 2

    def known(self, word_W: Hashes) -> NDArray[np.bool_]:
        """[W] whether the word has an embedding of its own."""
        return word_rows(word_W, self.checks[0]) > UNKNOWN_WORD

    def logits(self, word_W: Hashes) -> Floats:
        """`[W]` log-odds for the words of one text with padding around them."""
        rows_WG = np.pad(rows_of(word_W, self.checks), ((self.reach, self.reach), (0, 0)))
        logit_W = np.empty(len(word_W), np.float32)
        (matrix, bias), *rest = self.layers
        for low in range(0, len(word_W), _ROWS):
            rows_NG = rows_WG[low : low + _ROWS + 2 * self.reach]
            embedded_NE = np.zeros((len(rows_NG), self.tables[0].shape[1]), np.float32)
            for number, table_VE in enumerate(self.tables):
                embedded_NE += table_VE[rows_NG[:, number]]
            embedded_NE[rows_NG[:, 0] == 0] = 0
            hidden = exact_product(windows(embedded_NE, 2 * self.reach + 1), matrix) + bias
            for inner, inner_bias in rest:
                hidden = exact_product(leaky(hidden), inner) + inner_bias
            logit_W[low : low + _ROWS] = hidden[:, 0]
        return logit_W + np.float32(self.shift)
