"""The best segmentation under length constraints, by dynamic programming.

Shape suffixes: W words, S sentences.
"""

import math
from collections import deque

import numpy as np
from numpy.typing import NDArray

_SHORT_PENALTY = 50.0
"""Cost of a sentence below the minimum, in log-odds: more than any boundary gains."""


def best_cuts(
    length_W: NDArray[np.int64], gain_W: NDArray[np.float32], low: int, high: int
) -> NDArray[np.int64]:
    """The words that begin a sentence, without the first word, with the largest sum of gains.

    `length_W` are the tokens of each word, `gain_W` the gain of a boundary before it (negative: a cost). No sentence
    has more than `high` tokens, except a single longer word. One with fewer than `low` costs `_SHORT_PENALTY`.
    """
    count = len(length_W)
    before = np.concatenate([[0], np.cumsum(length_W)])
    first = np.minimum(np.searchsorted(before, before - high), np.arange(count + 1) - 1).tolist()
    short = np.searchsorted(before, before - low, side="right").tolist()
    gain = np.append(gain_W, 0.0).tolist()
    best, origin = [0.0], [0]
    long_enough, too_short = _RunningMaximum(), _RunningMaximum()
    for end in range(1, count + 1):
        # Sentences that start in first..short have at least `low` tokens, those in short..end fewer.
        for start in range(short[end - 1], min(short[end], end)):
            long_enough.append(start, best[start])
        too_short.append(end - 1, best[end - 1] - _SHORT_PENALTY)
        long_enough.drop_before(first[end])
        too_short.drop_before(max(first[end], short[end]))
        (value, start) = max(long_enough.largest(), too_short.largest(), key=lambda pair: pair[0])
        best.append(value + gain[end])
        origin.append(start)
    cuts = []
    word = origin[count]
    while word > 0:
        cuts.append(word)
        word = origin[word]
    return np.array(cuts[::-1], np.int64)


class _RunningMaximum:
    """The largest value of a sliding window, in amortised constant time per step."""

    def __init__(self) -> None:
        self._kept: deque[tuple[float, int]] = deque()

    def append(self, index: int, value: float) -> None:
        while self._kept and self._kept[-1][0] < value:
            self._kept.pop()
        self._kept.append((value, index))

    def drop_before(self, index: int) -> None:
        while self._kept and self._kept[0][1] < index:
            self._kept.popleft()

    def largest(self) -> tuple[float, int]:
        """The largest value and the first index that has it."""
        return self._kept[0] if self._kept else (-math.inf, -1)


def ranges_to_split_again(length_S: NDArray[np.int64], low: int, high: int) -> list[tuple[int, int]]:
    """Ranges of sentences, end exclusive, around each one that breaks a constraint, including its neighbours."""
    wrong = np.flatnonzero((length_S < low) | (length_S > high))
    ranges: list[tuple[int, int]] = []
    for sentence in wrong.tolist():
        start, end = max(sentence - 1, 0), min(sentence + 2, len(length_S))
        if ranges and start <= ranges[-1][1]:
            ranges[-1] = (ranges[-1][0], end)
        else:
            ranges.append((start, end))
    return ranges
