"""The best segmentation under limits of length, by dynamic programming."""

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
    first = np.searchsorted(before, before - high)
    gain = np.append(gain_U, 0.0)
    best = np.zeros(count + 1)
    origin = np.zeros(count + 1, np.int64)
    for end in range(1, count + 1):
        start = min(first[end], end - 1)
        values = best[start:end] - _SHORT_PENALTY * (before[end] - before[start:end] < low)
        chosen = int(values.argmax())
        best[end] = values[chosen] + gain[end]
        origin[end] = start + chosen
    cuts = []
    place = int(origin[count])
    while place > 0:
        cuts.append(place)
        place = int(origin[place])
    return np.array(cuts[::-1], np.int64)


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
