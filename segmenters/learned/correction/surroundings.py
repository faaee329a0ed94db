"""How the text around a place is written: its marks, capitals, line breaks, and lower case after final marks.

Shape suffixes: N characters, W tokens, M places.
"""

import numpy as np
from numpy.typing import NDArray

from segmenters.characters import Kind, Kinds
from segmenters.contract import Ends

REACH = 32
"""Tokens on each side that are the surroundings of a place."""
_MARKS, _CAPITALS, _BREAKS = (
    np.array(steps, np.float32)
    for steps in ((0.02, 0.05, 0.08, 0.13), (0.05, 0.12, 0.25, 0.5), (0.001, 0.02, 0.05, 0.12))
)
_CARELESS = np.array((0.06, 0.12, 0.25, 0.5), np.float32)
_EVIDENCE = 3, 10
"""Final marks before a letter with case, from which on their share of lower case tells little, or much."""
STEPS = 5
NUM_SURROUNDINGS, NUM_HABITS = STEPS**3, STEPS**2 * 3


def surroundings(
    kind_N: Kinds, start_W: Ends, end_W: Ends, number_M: Ends, text_M: Ends, text_starts: Ends
) -> tuple[NDArray[np.int16], NDArray[np.int16]]:
    """Shares of marks, capitals and line breaks among the tokens near each place; and of its text the share of line
    breaks, of lower case after final marks, and how many of these it has."""
    first_W = kind_N[start_W]
    mark_W = kind_N[end_W - 1] >= Kind.TERMINATOR
    break_W = np.zeros(len(start_W) + 1, np.bool_)  # before the token
    break_W[np.searchsorted(start_W, np.flatnonzero(kind_N == Kind.BREAK))] = True
    upper_W = first_W == Kind.UPPER
    break_sums = _sums(break_W[:-1])
    bound_T = np.append(np.searchsorted(start_W, text_starts), len(start_W))
    low_T, end_T = bound_T[:-1], bound_T[1:]
    habit_T = _habits(first_W, mark_W, upper_W, break_sums, low_T, end_T)
    near_low_M = np.maximum(number_M - REACH, low_T[text_M])
    near_high_M = np.minimum(number_M + REACH, end_T[text_M])
    size_M = near_high_M - near_low_M
    marks_M = _steps(_within(_sums(mark_W), near_low_M, near_high_M), size_M, _MARKS)
    capitals_M = _steps(_within(_sums(upper_W), near_low_M, near_high_M), size_M, _CAPITALS)
    # The break before the first of the tokens is not among them.
    breaks_M = _steps(_within(break_sums, near_low_M + 1, near_high_M), size_M, _BREAKS)
    return (marks_M * STEPS + capitals_M) * STEPS + breaks_M, habit_T[text_M]


def _habits(
    first_W: Kinds,
    mark_W: NDArray[np.bool_],
    upper_W: NDArray[np.bool_],
    break_sums: NDArray[np.int32],
    low_T: Ends,
    end_T: Ends,
) -> NDArray[np.int16]:
    after_W = np.append(False, mark_W[:-1])
    inner_T = np.minimum(low_T + 1, end_T)  # the first token of a text is after none
    lower_T = _within(_sums(after_W & (first_W == Kind.LOWER)), inner_T, end_T)
    all_T = lower_T + _within(_sums(after_W & upper_W), inner_T, end_T)
    careless_T = _steps(lower_T, all_T + 2, _CARELESS)
    evidence_T = (all_T >= _EVIDENCE[0]).astype(np.int16) + (all_T >= _EVIDENCE[1])
    breaks_T = _steps(_within(break_sums, inner_T, end_T), end_T - low_T, _BREAKS)
    return (careless_T * STEPS + breaks_T) * np.int16(3) + evidence_T


def _sums(flag_W: NDArray[np.bool_]) -> NDArray[np.int32]:
    return np.append(np.int32(0), np.cumsum(flag_W, dtype=np.int32))


def _within(sums: NDArray[np.int32], low_M: Ends, high_M: Ends) -> NDArray[np.int32]:
    return sums[high_M] - sums[low_M]


def _steps(count_M: NDArray[np.int32], of_M: Ends, steps: NDArray[np.float32]) -> NDArray[np.int16]:
    """0 to 4, by the share of the count."""
    share_M = count_M.astype(np.float32) / np.maximum(of_M, 1).astype(np.float32)
    return np.searchsorted(steps, share_M, side="right").astype(np.int16)
