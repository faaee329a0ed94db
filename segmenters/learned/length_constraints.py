"""The best segmentation under limits of length, by dynamic programming."""

import math
from collections import deque

import numpy as np
from numpy.typing import NDArray

_SHORT_PENALTY = 50.0
"""Log-odds that a sentence under the least length costs: more than any place is worth."""


def best_cuts(
    length_U: NDArray[np.int64], gain_U: NDArray[np.float32], low: int, high: int
) -> NDArray[np.int64]:
    """Units that begin a sentence, the first unit left out, so that the sum of their gains is greatest.

    `length_U` are the tokens of each unit, `gain_U` what a cut before it is worth (negative: costs). No sentence
    has more than `high` tokens, but a single unit may; one of fewer than `low` only where it cannot be helped.
    """
    count = len(length_U)
    before = np.concatenate([[0], np.cumsum(length_U)])
    first = np.minimum(np.searchsorted(before, before - high), np.arange(count + 1) - 1).tolist()
    short = np.searchsorted(before, before - low, side="right").tolist()
    gain = np.append(gain_U, 0.0).tolist()
    best, origin = [0.0], [0]
    long_enough, too_short = _RunningMaximum(), _RunningMaximum()
    for end in range(1, count + 1):
        # Sentences that start in first..short have the least length, those in short..end have not.
        for start in range(short[end - 1], min(short[end], end)):
            long_enough.append(start, best[start])
        too_short.append(end - 1, best[end - 1] - _SHORT_PENALTY)
        long_enough.drop_before(first[end])
        too_short.drop_before(max(first[end], short[end]))
        (value, start) = max(long_enough.largest(), too_short.largest(), key=lambda pair: pair[0])
        best.append(value + gain[end])
        origin.append(start)
    cuts = []
    place = origin[count]
    while place > 0:
        cuts.append(place)
        place = origin[place]
    return np.array(cuts[::-1], np.int64)


class _RunningMaximum:
    """The largest value of a window that moves on, in constant time a step: only values that may yet be it are kept."""

    def __init__(self) -> None:
        self._kept: deque[tuple[float, int]] = deque()

    def append(self, place: int, value: float) -> None:
        while self._kept and self._kept[-1][0] < value:
            self._kept.pop()
        self._kept.append((value, place))

    def drop_before(self, place: int) -> None:
        while self._kept and self._kept[0][1] < place:
            self._kept.popleft()

    def largest(self) -> tuple[float, int]:
        """The largest value, and the first place that has it."""
        return self._kept[0] if self._kept else (-math.inf, -1)


def stretches_to_mend(length_S: NDArray[np.int64], low: int, high: int) -> list[tuple[int, int]]:
    """Ranges of sentences, first and behind the last, in which one breaks a limit; its neighbours included."""
    wrong = np.flatnonzero((length_S < low) | (length_S > high))
    ranges: list[tuple[int, int]] = []
    for sentence in wrong.tolist():
        start, end = max(sentence - 1, 0), min(sentence + 2, len(length_S))
        if ranges and start <= ranges[-1][1]:
            ranges[-1] = (ranges[-1][0], end)
        else:
            ranges.append((start, end))
    return ranges
