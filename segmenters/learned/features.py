"""Text as a row of units - words, marks, ideographs - with the features that the learned segmenter looks at.

All of it is array code over the characters of a batch: no loop in Python.

Shape suffixes: N characters of the batch, U units, D texts.
"""

import dataclasses
import functools

import numpy as np
from numpy.typing import NDArray

from segmenters.characters import Codes, Kind, Kinds, code_points, kinds
from segmenters.contract import Ends

PADDING = 16
"""Empty units before, between and behind the texts of a batch: no unit sees those of another text."""
SURROUNDINGS = 48
"""Units on each side over which densities are taken."""
NUM_DENSITIES = 4
NUM_SHAPES = 256
NUM_GAPS = 16
"""Eight kinds of gap, each with and without an end by the rule."""

_SMALL_GAPS = {
    "none": 0,
    "space": 1,
    "spaces": 2,
    "break": 3,
    "break and indent": 4,
    "wrap": 5,
    "empty line": 6,
}
_GAP_START = 7
_WRAPPED = (50, 100)  # characters of a line at whose end a paragraph may be hard-wrapped
_INNER_MARKS = tuple(map(ord, "'’._"))  # inside a word, between two of its letters
_SUFFIX = 3


@dataclasses.dataclass(frozen=True)
class Units:
    """The units of a batch; `PADDING` empty ones stand around the texts (hash 0, shape 0, start -1)."""

    start_U: Ends
    """Place of the first character in the batch."""
    word_U: NDArray[np.uint64]
    """Hash of the lower-cased unit."""
    suffix_U: NDArray[np.uint64]
    """Hash of its last letters."""
    shape_U: NDArray[np.uint8]
    """Kind of the first character, kind of the last, length."""
    gap_U: NDArray[np.uint8]
    """What is between the unit before and this one, and whether the rule ends a sentence there."""
    length_U: NDArray[np.int32]
    """Characters."""
    low_U: NDArray[np.int64]
    """First unit of the surroundings: at most `SURROUNDINGS` units back, in the same text."""
    high_U: NDArray[np.int64]
    """Behind the last unit of the surroundings: at most `SURROUNDINGS` units on, in the same text."""

    @property
    def kind_U(self) -> NDArray[np.uint8]:
        """Kind of the first character (`Kind.SPACE` for padding)."""
        return self.shape_U >> np.uint8(4)

    @property
    def broken_U(self) -> NDArray[np.bool_]:
        """Whether a line break is in the gap before; the start of a text is none."""
        return (self.gap_U >= 2 * _SMALL_GAPS["break"]) & (self.gap_U < 2 * _GAP_START)

    def around(self, is_U: NDArray[np.bool_]) -> NDArray[np.float32]:
        """Share of the units in the surroundings of each for which `is_U` holds."""
        sums = np.concatenate([[0], np.cumsum(is_U, dtype=np.int32)])
        counts_U = sums[self.high_U] - sums[self.low_U]
        return counts_U.astype(np.float32) / np.maximum(self.high_U - self.low_U, 1).astype(np.float32)

    def densities(self, known_U: NDArray[np.bool_]) -> NDArray[np.float32]:
        """`[U, NUM_DENSITIES]`: shares in the surroundings of terminators, line breaks, capitals, known words."""
        kind_U = self.kind_U
        return np.stack(
            [
                self.around(kind_U >= Kind.TERMINATOR),
                self.around(self.broken_U),
                self.around(kind_U == Kind.UPPER),
                self.around(known_U),
            ],
            axis=1,
        )

    def candidates(self, unmarked_U: NDArray[np.bool_]) -> NDArray[np.int64]:
        """Units that might begin a sentence, by what is cheap to see.

        In text with terminators or line breaks: behind a break, a terminator or its closing mark; behind white
        space that follows a mark or comes before a capital, a digit or a mark. Elsewhere: everywhere.
        """
        kind_U = self.kind_U
        before_U = _shifted(kind_U, 1)
        terminator_U = before_U >= Kind.TERMINATOR
        closed_U = (before_U >= Kind.QUOTE) & (_shifted(kind_U, 2) >= Kind.TERMINATOR)
        marked_U = (before_U > Kind.IDEOGRAPH) & (before_U != Kind.PAUSE)
        spaced_U = (self.gap_U >= 2) & (marked_U | (kind_U != Kind.LOWER))
        place_U = terminator_U | closed_U | spaced_U | self.broken_U | unmarked_U
        return np.flatnonzero(place_U & (self.start_U >= 0) & (self.gap_U < 2 * _GAP_START))

    def unmarked(self, density_UF: NDArray[np.float32]) -> NDArray[np.bool_]:
        """Units with neither terminators nor line breaks nor commas in their surroundings.

        (Long sentences of Chinese have many commas, and no terminator for as many units as are looked at.)
        """
        bare_U = (density_UF[:, 0] == 0) & (density_UF[:, 1] == 0)
        if bare_U.any():
            bare_U &= self.around(self.kind_U == Kind.PAUSE) == 0
        return bare_U


def _shifted(values_U: NDArray[np.uint8], by: int) -> NDArray[np.uint8]:
    shifted = np.zeros_like(values_U)
    shifted[by:] = values_U[:-by]
    return shifted


def units(batch: str, text_starts: Ends, rule_places: Ends) -> Units:
    """The units of a batch of texts that start at `text_starts`; `rule_places` are the rule's boundaries."""
    kind_N, code_N = kinds(batch), code_points(batch)
    first_N, last_N = _edges(kind_N, code_N)
    start_U, last_U = np.flatnonzero(first_N), np.flatnonzero(last_N)
    if not len(start_U):
        empty = np.empty(0, np.uint64)
        none, small = np.empty(0, np.int64), np.empty(0, np.uint8)
        return Units(none, empty, empty, small, small, none.astype(np.int32), none, none)

    word_U, suffix_U = _hashes(code_N, kind_N, start_U, last_U)
    length_U = last_U - start_U
    first_kind_U, last_kind_U = kind_N[start_U], kind_N[last_U]
    case_U = np.where(last_kind_U == Kind.LOWER, 0, np.where(last_kind_U == Kind.UPPER, 1, 2))
    case_U = np.where(last_kind_U == Kind.DIGIT, 3, case_U).astype(np.uint8)
    shape_U = (
        (first_kind_U << np.uint8(4)) | (case_U << np.uint8(2)) | np.minimum(length_U, 3).astype(np.uint8)
    )

    gap_U = _gaps(kind_N, start_U, last_U)
    text_U = np.searchsorted(text_starts, start_U, side="right") - 1
    new_text_U = np.diff(text_U, prepend=-1) > 0
    gap_U[new_text_U] = _GAP_START
    rule_N = np.zeros(len(kind_N) + 1, np.bool_)
    rule_N[rule_places] = True
    gap_U = gap_U * 2 + rule_N[start_U]

    place_U = np.arange(len(start_U)) + PADDING * (text_U + 1)
    size = len(start_U) + PADDING * (len(text_starts) + 1)

    def padded(values: NDArray, filler: int = 0) -> NDArray:
        array = np.full(size, filler, values.dtype)
        array[place_U] = values
        return array

    first_D = np.searchsorted(text_U, np.arange(len(text_starts)))
    first_U = place_U[np.minimum(first_D, len(place_U) - 1)][text_U]
    behind_U = np.append(first_D[1:], len(text_U))[text_U] - first_D[text_U] + first_U
    return Units(
        padded(start_U, -1),
        padded(word_U),
        padded(suffix_U),
        padded(shape_U),
        padded(gap_U.astype(np.uint8)),
        padded((length_U + 1).astype(np.int32)),
        padded(np.maximum(place_U - SURROUNDINGS, first_U)),
        padded(np.minimum(place_U + SURROUNDINGS, behind_U)),
    )


def _edges(kind_N: Kinds, code_N: Codes) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """Which characters are the first of a unit, and which the last.

    Letters, digits and what joins them make a word; a run of one mark is a unit; an ideograph is one.
    """
    solid_N = kind_N > Kind.BREAK
    letter_N = solid_N & (kind_N <= Kind.MARK)
    inner_N = np.zeros(len(kind_N), np.bool_)
    mark_M = np.flatnonzero(_is_inner_mark(code_N))
    mark_M = mark_M[(mark_M > 0) & (mark_M < len(kind_N) - 1)]
    before_M, after_M = kind_N[mark_M - 1], kind_N[mark_M + 1]
    joins_M = letter_N[mark_M - 1] & letter_N[mark_M + 1]
    joins_M &= ~((before_M == Kind.LOWER) & (after_M == Kind.UPPER))  # "the end.Next sentence"
    letter_N[mark_M[joins_M]] = True
    goes_on_N = inner_N
    goes_on_N[1:] = (letter_N[1:] & letter_N[:-1]) | (
        (code_N[1:] == code_N[:-1]) & solid_N[1:] & (kind_N[1:] > Kind.IDEOGRAPH)
    )
    first_N = solid_N & ~goes_on_N
    last_N = solid_N.copy()
    last_N[:-1] &= ~goes_on_N[1:]
    return first_N, last_N


def _is_inner_mark(code_N: Codes) -> NDArray[np.bool_]:
    found_N = code_N == _INNER_MARKS[0]
    for mark in _INNER_MARKS[1:]:
        if code_N.dtype != np.uint8 or mark < 256:
            found_N |= code_N == mark
    return found_N


def _gaps(kind_N: Kinds, start_U: Ends, last_U: Ends) -> NDArray[np.uint8]:
    """The `_SMALL_GAPS` before each unit."""
    width_U = start_U - np.append(-1, last_U[:-1]) - 1
    gap_U = np.minimum(width_U, 2).astype(np.uint8)
    break_B = np.flatnonzero(kind_N == Kind.BREAK)
    unit_B = np.searchsorted(start_U, break_B)
    breaks_U = np.bincount(unit_B[unit_B < len(start_U)], minlength=len(start_U))
    broken_U = breaks_U > 0
    indented_U = kind_N[np.maximum(start_U - 1, 0)] == Kind.SPACE
    gap_U[broken_U] = _SMALL_GAPS["break"]
    gap_U[broken_U & indented_U] = _SMALL_GAPS["break and indent"]
    width_B = break_B - np.append(-1, break_B[:-1])
    wrap_B = (width_B >= _WRAPPED[0]) & (width_B <= _WRAPPED[1]) & (unit_B < len(start_U))
    wrapped_U = np.zeros(len(start_U), np.bool_)
    wrapped_U[unit_B[wrap_B]] = True
    gap_U[broken_U & wrapped_U & ~indented_U] = _SMALL_GAPS["wrap"]
    gap_U[breaks_U > 1] = _SMALL_GAPS["empty line"]
    return gap_U


# ---- hashes: the sum over the unit's characters of f(character) * R ** place, times R ** -(place of the first)

_R = 0x9E3779B97F4A7C15  # odd, so it has an inverse modulo 2 ** 64
_R_INVERSE = pow(_R, -1, 2**64)


@functools.cache
def _powers(base: int, count: int) -> NDArray[np.uint64]:
    powers = np.full(count, base, np.uint64)
    powers[0] = 1
    return np.multiply.accumulate(powers)


@functools.cache
def _character_hashes(count: int) -> NDArray[np.uint64]:
    """One hash a code point, the same for upper and lower case; 0 for white space."""
    lower = np.arange(count, dtype=np.uint64)
    for code in range(min(count, 0x20000)):
        char = chr(code).lower()
        if len(char) == 1 and ord(char) != code:
            lower[code] = ord(char)
    hashes = lower + np.uint64(1)
    for shift, factor in ((30, 0xBF58476D1CE4E5B9), (27, 0x94D049BB133111EB), (31, 1)):  # splitmix64
        hashes = (hashes ^ (hashes >> np.uint64(shift))) * np.uint64(factor)
    whites = [code for code in range(min(count, 0x3001)) if chr(code).isspace()]
    hashes[whites] = 0
    return hashes


def _hashes(
    code_N: Codes, kind_N: Kinds, start_U: Ends, last_U: Ends
) -> tuple[NDArray[np.uint64], NDArray[np.uint64]]:
    table = _character_hashes(256 if code_N.dtype == np.uint8 else 0x110000)
    count = 2 ** len(code_N).bit_length()
    hash_N = table[code_N]
    word_U = np.add.reduceat(hash_N * _powers(_R, count)[: len(code_N)], start_U)
    word_U *= _powers(_R_INVERSE, count)[start_U]
    suffix_U = np.zeros(len(start_U), np.uint64)
    for back in range(_SUFFIX):
        inside_U = last_U - back >= start_U
        hash_U = hash_N[np.maximum(last_U - back, 0)]
        suffix_U = suffix_U * np.uint64(_R) + np.where(inside_U, hash_U, np.uint64(0))
    return _mixed(word_U), _mixed(suffix_U)


def _mixed(hash_U: NDArray[np.uint64]) -> NDArray[np.uint64]:
    return hash_U ^ (hash_U >> np.uint64(29))
