"""The features of each word of a text, from which the learned segmenter predicts where sentences begin.

A word is a run of letters and digits, a run of one punctuation mark, or one ideograph. All features are computed by
array code over the characters of a batch.

Shape suffixes: N characters of the batch, W words, M candidates, F densities, D texts.
"""

import dataclasses
import functools

import numpy as np
from numpy.typing import NDArray

from segmenters.characters import Codes, Kind, Kinds, code_points, kinds
from segmenters.contract import Ends

PADDING = 16
"""Padding words before, between and after the texts of a batch, so that no window reaches into another text."""
SURROUNDINGS = 48
"""Words on each side over which densities are computed."""
NUM_DENSITIES = 4
NUM_SHAPES = 256
NUM_GAPS = 16
"""Eight kinds of gap, each with and without a boundary by `punctuation_v1`."""

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
class Features:
    """The words of a batch, with `PADDING` words around each text (hash 0, shape 0, start -1)."""

    start_W: Ends
    """Offset of the first character in the batch."""
    word_W: NDArray[np.uint64]
    """Hash of the lower-cased word."""
    suffix_W: NDArray[np.uint64]
    """Hash of the last letters of the word."""
    shape_W: NDArray[np.uint8]
    """Kind of the first character, kind of the last, length."""
    gap_W: NDArray[np.uint8]
    """The white space between the previous word and this one, and whether `punctuation_v1` has a boundary there."""
    length_W: NDArray[np.int32]
    """Characters."""
    low_W: NDArray[np.int64]
    """First word of the surroundings: at most `SURROUNDINGS` words back, in the same text."""
    high_W: NDArray[np.int64]
    """End (exclusive) of the surroundings: at most `SURROUNDINGS` words ahead, in the same text."""

    @property
    def kind_W(self) -> NDArray[np.uint8]:
        """Kind of the first character (`Kind.SPACE` for padding)."""
        return self.shape_W >> np.uint8(4)

    @property
    def broken_W(self) -> NDArray[np.bool_]:
        """Whether a line break is in the gap before the word; False at the start of a text."""
        return (self.gap_W >= 2 * _SMALL_GAPS["break"]) & (self.gap_W < 2 * _GAP_START)

    def around(self, is_W: NDArray[np.bool_]) -> NDArray[np.float32]:
        """Share of the words in the surroundings of each word for which `is_W` holds."""
        sums = np.concatenate([[0], np.cumsum(is_W, dtype=np.int32)])
        counts_W = sums[self.high_W] - sums[self.low_W]
        return counts_W.astype(np.float32) / np.maximum(self.high_W - self.low_W, 1).astype(np.float32)

    def densities(self, known_W: NDArray[np.bool_]) -> NDArray[np.float32]:
        """`[W, F]`: shares of terminators, line breaks, capitals and known words in the surroundings."""
        kind_W = self.kind_W
        return np.stack(
            [
                self.around(kind_W >= Kind.TERMINATOR),
                self.around(self.broken_W),
                self.around(kind_W == Kind.UPPER),
                self.around(known_W),
            ],
            axis=1,
        )

    def candidates(self, unpunctuated_W: NDArray[np.bool_]) -> NDArray[np.int64]:
        """`[M]` the words that may begin a sentence, by rules that cost little.

        In text with terminators or line breaks: words after a break, a terminator or its closing quotes and brackets;
        and after white space that follows a punctuation mark or precedes a capital, a digit or a punctuation mark. In
        unpunctuated text: every word.
        """
        kind_W = self.kind_W
        before_W = _shifted(kind_W, 1)
        terminator_W = before_W >= Kind.TERMINATOR
        closed_W = (before_W >= Kind.QUOTE) & (_shifted(kind_W, 2) >= Kind.TERMINATOR)
        after_mark_W = (before_W > Kind.IDEOGRAPH) & (before_W != Kind.PAUSE)
        spaced_W = (self.gap_W >= 2) & (after_mark_W | (kind_W != Kind.LOWER))
        candidate_W = terminator_W | closed_W | spaced_W | self.broken_W | unpunctuated_W
        return np.flatnonzero(candidate_W & (self.start_W >= 0) & (self.gap_W < 2 * _GAP_START))

    def unpunctuated(self, density_WF: NDArray[np.float32]) -> NDArray[np.bool_]:
        """Words with neither terminators nor line breaks nor commas in their surroundings.

        Commas count because a long Chinese sentence may have no terminator within `SURROUNDINGS` words.
        """
        bare_W = (density_WF[:, 0] == 0) & (density_WF[:, 1] == 0)
        if bare_W.any():
            bare_W &= self.around(self.kind_W == Kind.PAUSE) == 0
        return bare_W


def _shifted(values_W: NDArray[np.uint8], by: int) -> NDArray[np.uint8]:
    shifted = np.zeros_like(values_W)
    shifted[by:] = values_W[:-by]
    return shifted


def extract_features(batch: str, text_starts: Ends, rule_starts: Ends) -> Features:
    """The features of a batch of texts that start at `text_starts`; `rule_starts`: sentences by `punctuation_v1`."""
    kind_N, code_N = kinds(batch), code_points(batch)
    first_N, last_N = _edges(kind_N, code_N)
    start_W, last_W = np.flatnonzero(first_N), np.flatnonzero(last_N)
    if not len(start_W):
        empty = np.empty(0, np.uint64)
        none, small = np.empty(0, np.int64), np.empty(0, np.uint8)
        return Features(none, empty, empty, small, small, none.astype(np.int32), none, none)

    word_W, suffix_W = _hashes(code_N, kind_N, start_W, last_W)
    length_W = last_W - start_W
    first_kind_W, last_kind_W = kind_N[start_W], kind_N[last_W]
    case_W = np.where(last_kind_W == Kind.LOWER, 0, np.where(last_kind_W == Kind.UPPER, 1, 2))
    case_W = np.where(last_kind_W == Kind.DIGIT, 3, case_W).astype(np.uint8)
    shape_W = (
        (first_kind_W << np.uint8(4)) | (case_W << np.uint8(2)) | np.minimum(length_W, 3).astype(np.uint8)
    )

    gap_W = _gaps(kind_N, start_W, last_W)
    text_W = np.searchsorted(text_starts, start_W, side="right") - 1
    new_text_W = np.diff(text_W, prepend=-1) > 0
    gap_W[new_text_W] = _GAP_START
    rule_N = np.zeros(len(kind_N) + 1, np.bool_)
    rule_N[rule_starts] = True
    gap_W = gap_W * 2 + rule_N[start_W]

    index_W = np.arange(len(start_W)) + PADDING * (text_W + 1)
    size = len(start_W) + PADDING * (len(text_starts) + 1)

    def padded(values: NDArray, filler: int = 0) -> NDArray:
        array = np.full(size, filler, values.dtype)
        array[index_W] = values
        return array

    first_D = np.searchsorted(text_W, np.arange(len(text_starts)))
    first_W = index_W[np.minimum(first_D, len(index_W) - 1)][text_W]
    text_end_W = np.append(first_D[1:], len(text_W))[text_W] - first_D[text_W] + first_W
    return Features(
        padded(start_W, -1),
        padded(word_W),
        padded(suffix_W),
        padded(shape_W),
        padded(gap_W.astype(np.uint8)),
        padded((length_W + 1).astype(np.int32)),
        padded(np.maximum(index_W - SURROUNDINGS, first_W)),
        padded(np.minimum(index_W + SURROUNDINGS, text_end_W)),
    )


def _edges(kind_N: Kinds, code_N: Codes) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """Which characters are the first of a word, and which the last."""
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


def _gaps(kind_N: Kinds, start_W: Ends, last_W: Ends) -> NDArray[np.uint8]:
    """The `_SMALL_GAPS` before each word."""
    width_W = start_W - np.append(-1, last_W[:-1]) - 1
    gap_W = np.minimum(width_W, 2).astype(np.uint8)
    break_B = np.flatnonzero(kind_N == Kind.BREAK)
    word_B = np.searchsorted(start_W, break_B)
    breaks_W = np.bincount(word_B[word_B < len(start_W)], minlength=len(start_W))
    broken_W = breaks_W > 0
    indented_W = kind_N[np.maximum(start_W - 1, 0)] == Kind.SPACE
    gap_W[broken_W] = _SMALL_GAPS["break"]
    gap_W[broken_W & indented_W] = _SMALL_GAPS["break and indent"]
    width_B = break_B - np.append(-1, break_B[:-1])
    wrap_B = (width_B >= _WRAPPED[0]) & (width_B <= _WRAPPED[1]) & (word_B < len(start_W))
    wrapped_W = np.zeros(len(start_W), np.bool_)
    wrapped_W[word_B[wrap_B]] = True
    gap_W[broken_W & wrapped_W & ~indented_W] = _SMALL_GAPS["wrap"]
    gap_W[breaks_W > 1] = _SMALL_GAPS["empty line"]
    return gap_W


# ---- hashes: the sum over the word's characters of f(character) * R ** offset, times R ** -(offset of the first)

_R = 0x9E3779B97F4A7C15  # odd, so it has an inverse modulo 2 ** 64
_R_INVERSE = pow(_R, -1, 2**64)


@functools.cache
def _powers(base: int, count: int) -> NDArray[np.uint64]:
    powers = np.full(count, base, np.uint64)
    powers[0] = 1
    return np.multiply.accumulate(powers)


@functools.cache
def _character_hashes(count: int) -> NDArray[np.uint64]:
    """One hash per code point, the same for upper and lower case; 0 for white space."""
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
    code_N: Codes, kind_N: Kinds, start_W: Ends, last_W: Ends
) -> tuple[NDArray[np.uint64], NDArray[np.uint64]]:
    table = _character_hashes(256 if code_N.dtype == np.uint8 else 0x110000)
    count = 2 ** len(code_N).bit_length()
    hash_N = table[code_N]
    word_W = np.add.reduceat(hash_N * _powers(_R, count)[: len(code_N)], start_W)
    word_W *= _powers(_R_INVERSE, count)[start_W]
    suffix_W = np.zeros(len(start_W), np.uint64)
    for back in range(_SUFFIX):
        inside_W = last_W - back >= start_W
        hash_W = hash_N[np.maximum(last_W - back, 0)]
        suffix_W = suffix_W * np.uint64(_R) + np.where(inside_W, hash_W, np.uint64(0))
    return _mixed(word_W), _mixed(suffix_W)


def _mixed(hash_W: NDArray[np.uint64]) -> NDArray[np.uint64]:
    return hash_W ^ (hash_W >> np.uint64(29))
