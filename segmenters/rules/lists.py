"""Items of a list that stand in one line: `1) Peel them 2) Cut them`, `a. Peel them b. Cut them`.

Shape suffixes: N characters, S markers.
"""

import numpy as np

from segmenters.characters import Codes, Kind, Kinds
from segmenters.contract import Ends
from segmenters.rules.kinds import BULLETS, STOP, are
from segmenters.rules.sorted_offsets import merged

_CLOSE = ord(")")
_ZERO, _A, _Z = map(ord, "0az")
_FIRST_LETTER = 100
"""Value of the marker `a`; those of numbers are below."""


def item_starts(code_N: Codes, kind_N: Kinds, start_W: Ends) -> Ends:
    """Starts of the items but the first, where the first begins the line: their markers count up, or are one bullet."""
    return merged(_numbered(code_N, kind_N, start_W), _bulleted(code_N, kind_N, start_W))


def _line_starts(kind_N: Kinds, start_W: Ends) -> tuple[Ends, Ends]:
    """The line breaks, and the first word after each."""
    breaks = np.flatnonzero(kind_N == Kind.BREAK)
    return breaks, start_W[np.searchsorted(start_W, breaks)]


def _numbered(code_N: Codes, kind_N: Kinds, start_W: Ends) -> Ends:
    last = len(code_N) - 1
    at_S = np.flatnonzero(kind_N >= Kind.CLOSER)
    at_S = at_S[(code_N[at_S] == STOP) | (code_N[at_S] == _CLOSE)]
    at_S = at_S[kind_N[np.minimum(at_S + 1, last)] == Kind.SPACE]
    at_S = at_S[kind_N[np.minimum(at_S + 2, last)] >= Kind.UPPER]
    kind_S, earlier_S = kind_N[at_S - 1], kind_N[np.maximum(at_S - 2, 0)]
    letter_S = (kind_S == Kind.LOWER) & ((earlier_S <= Kind.BREAK) | (earlier_S == Kind.SYMBOL))
    at_S = at_S[letter_S | (kind_S == Kind.DIGIT) | (kind_S == Kind.TERMINATOR)]
    both_S = (code_N[at_S] == _CLOSE) & (code_N[at_S - 1] == STOP)
    end_S = at_S - both_S  # of the number or the letter
    code_S = code_N[end_S - 1].astype(np.int64)
    earlier_S = np.maximum(end_S - 2, 0)
    letter_S = (code_S >= _A) & (code_S <= _Z)
    digit_S = (code_S >= _ZERO) & (code_S <= _ZERO + 9)
    tens_S = digit_S & (kind_N[earlier_S] == Kind.DIGIT)
    start_S = end_S - 1 - tens_S
    before_S = np.maximum(start_S - 1, 0)
    begins_S = (kind_N[before_S] <= Kind.BREAK) | are(code_N[before_S], BULLETS)
    value_S = np.where(letter_S, _FIRST_LETTER + code_S - _A, code_S - _ZERO)
    value_S += np.where(tens_S, 10 * (code_N[earlier_S].astype(np.int64) - _ZERO), 0)
    kept_S = (letter_S | digit_S) & begins_S
    start_S, value_S, style_S = (
        start_S[kept_S],
        value_S[kept_S],
        (both_S * 2 + (code_N[at_S] == STOP))[kept_S],
    )
    if len(start_S) < 2:
        return start_S[:0]
    breaks, first_words = _line_starts(kind_N, start_W)
    line_S = np.searchsorted(breaks, start_S) - 1
    first_S = first_words[line_S]
    leads_S = (start_S == first_S) | are(code_N[first_S], BULLETS) & (start_S <= first_S + 2)
    linked_S = (line_S[1:] == line_S[:-1]) & (style_S[1:] == style_S[:-1]) & (value_S[1:] == value_S[:-1] + 1)
    linked_S = np.append(False, linked_S)
    run_S = np.cumsum(~linked_S) - 1
    counted_S = linked_S & leads_S[~linked_S][run_S]
    start_S = start_S[counted_S]
    spaced_S = kind_N[start_S - 1] == Kind.SPACE
    bullet_S = are(code_N[np.maximum(start_S - 1 - spaced_S, 0)], BULLETS)
    return np.unique(np.where(bullet_S, start_S - 1 - spaced_S, start_S))


def _bulleted(code_N: Codes, kind_N: Kinds, start_W: Ends) -> Ends:
    if code_N.dtype == np.uint8:
        return np.empty(0, np.int64)
    at_S = np.flatnonzero(kind_N == Kind.SYMBOL)
    at_S = at_S[are(code_N[at_S], BULLETS)]
    at_S = at_S[kind_N[np.maximum(at_S - 1, 0)] <= Kind.BREAK]
    if len(at_S) < 2:
        return at_S[:0]
    breaks, first_words = _line_starts(kind_N, start_W)
    first_S = first_words[np.searchsorted(breaks, at_S) - 1]
    return at_S[(at_S > first_S) & (code_N[first_S] == code_N[at_S])]
