"""Ends of sentences without white space after them.

Shape suffixes: N characters, M terminators, S those that are looked at.
"""

import numpy as np

from segmenters.characters import Codes, Kind, Kinds
from segmenters.rules.kinds import ELLIPSES, are
from segmenters.rules.marks import Marks
from segmenters.rules.words import Mask, words_after, words_before

_HIRAGANA = 0x3041, 0x3096
_DECIMAL_POINTS = "．｡﹒"
_LEAST_LETTERS = 3
"""Of the word before a full stop with no space after it: `end.Next`."""
_CODE = "{}=_<>`\\/|#@$[]~^*"
_NEAR = 60
"""Characters on both sides in which a sign of code or of an address makes `end.Next` one word."""


def between_ideographs(code_N: Codes, kind_N: Kinds, marks: Marks) -> Mask:
    """Whether an ASCII terminator stands between ideographs, where no space is needed."""
    before_M = kind_N[np.maximum(marks.mark_M - 1, 0)]
    between_M = ((before_M == Kind.IDEOGRAPH) | (before_M == Kind.MARK)) & (
        kind_N[marks.after_M] == Kind.IDEOGRAPH
    )
    return between_M & ~are(code_N[marks.mark_M], ELLIPSES) & ~marks.closed_M


def joined(code_N: Codes, kind_N: Kinds, marks: Marks) -> Mask:
    """Whether a free terminator is inside a number, or in a quotation that a particle or a comma follows."""
    before_M = kind_N[np.maximum(marks.mark_M - 1, 0)]
    next_kind_M, next_code_M = kind_N[marks.after_M], code_N[marks.after_M]
    number_M = (
        (before_M == Kind.DIGIT) & (next_kind_M == Kind.DIGIT) & are(code_N[marks.mark_M], _DECIMAL_POINTS)
    )
    particle_M = marks.closed_M & (next_code_M >= _HIRAGANA[0]) & (next_code_M <= _HIRAGANA[1])
    return number_M | particle_M | (next_kind_M == Kind.PAUSE)


def run_together(code_N: Codes, kind_N: Kinds, marks: Marks) -> Mask:
    """Whether the space after a sentence was forgotten: lower case, a mark, a capital, in text that is not code."""
    last = len(code_N) - 1
    after_M = marks.after_M
    found_M = np.zeros(len(after_M), np.bool_)
    before_M = kind_N[np.maximum(marks.mark_M - 1, 0)]
    possible_M = (kind_N[np.minimum(after_M, last)] == Kind.UPPER) & (
        marks.closed_M | (after_M == marks.mark_M + 1)
    )
    possible_M &= (before_M == Kind.LOWER) | (before_M == Kind.CLOSER) & ~marks.closed_M
    second_M = kind_N[np.minimum(after_M + 1, last)]
    chosen = np.flatnonzero(possible_M & ((second_M == Kind.LOWER) | (second_M == Kind.SPACE)))
    if not len(chosen):
        return found_M
    code, breaks = np.flatnonzero(kind_N >= Kind.SYMBOL), np.flatnonzero(kind_N == Kind.BREAK)
    code = code[are(code_N[code], _CODE)]
    mark_S, after_S = marks.mark_M[chosen], after_M[chosen]
    number_S = np.searchsorted(breaks, mark_S)  # of the line's end; a batch begins and ends with a break
    low_S = np.maximum(mark_S - _NEAR, breaks[number_S - 1])
    high_S = np.minimum(after_S + _NEAR, breaks[np.minimum(number_S, len(breaks) - 1)])
    chosen = chosen[np.searchsorted(code, low_S) == np.searchsorted(code, high_S)]
    mark_S, after_S = marks.mark_M[chosen], after_M[chosen]
    word = words_before(code_N, kind_N, mark_S)
    lower_S = kind_N[mark_S - word.length_M] == Kind.LOWER
    clear_S = kind_N[np.maximum(mark_S - word.length_M - 1, 0)] <= Kind.BREAK
    natural_S = (word.length_M >= _LEAST_LETTERS) & lower_S & clear_S & ~word.inner_M
    length_S, _ = words_after(code_N, kind_N, after_S)
    end_kind_S = kind_N[np.minimum(after_S + length_S, last)]
    found_M[chosen] = (natural_S | (before_M[chosen] == Kind.CLOSER)) & (
        (end_kind_S == Kind.SPACE) | (end_kind_S == Kind.PAUSE)
    )
    return found_M
