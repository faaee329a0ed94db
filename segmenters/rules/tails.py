"""What belongs to a sentence after its final mark: closing quotes and brackets, footnotes, smileys, further marks.

Shape suffixes: N characters, M marks, S those of them that are still looked at.
"""

import numpy as np

from segmenters.characters import Codes, Kind, Kinds
from segmenters.contract import Ends
from segmenters.rules.kinds import QUOTES, SHAD, STOP, are
from segmenters.rules.words import Mask

_MOST_CLOSERS = 4
_MOST_PARTS = 4
"""Detached parts in a row: `" .`, `:) ;)`, `[1] [2]`."""
_LONGEST_PART = 8
_SMILEY_START = ":;=^"
_SMILEY = ":;=8-^'\"()[]{}DdPpOo30/\\|*_<>xXS,"
_SMILEY_MOUTH = "()[]{}DdPpOo3/\\|*^"
_DOUBLE_QUOTE = '"＂'
_APOSTROPHE = ord("'")
_OPEN_BRACKET, _CLOSE_BRACKET = map(ord, "[]")
_EMOJI = ((0x1F600, 0x1F64F), (0x1F900, 0x1F9FF), (0x2639, 0x263B), (0x1F44D, 0x1F44F), (0x2764, 0x2764))


def after_tails(code_N: Codes, kind_N: Kinds, mark_M: Ends) -> tuple[Ends, Mask, Mask]:
    """The offset after the tail of each mark; whether it has a closing quote or bracket, and a detached full stop."""
    after_M = mark_M + 1
    closed_M = np.zeros(len(mark_M), np.bool_)
    spread_M = np.zeros(len(mark_M), np.bool_)
    free_M = kind_N[mark_M] == Kind.FREE_TERMINATOR
    _pass_closers(code_N, kind_N, after_M, closed_M, ~free_M)
    parity = _Parity(code_N, kind_N)
    open_S = np.arange(len(mark_M))
    for _ in range(_MOST_PARTS):
        after_S = after_M[open_S]
        kind_S, next_kind_S = kind_N[after_S], kind_N[np.minimum(after_S + 1, len(kind_N) - 1)]
        gap_S = ((kind_S == Kind.SPACE) & (next_kind_S > Kind.BREAK)).astype(np.int64)
        bracket_S = code_N[np.minimum(after_S + gap_S, len(code_N) - 1)] == _OPEN_BRACKET
        letters_S = (next_kind_S >= Kind.LOWER) & (next_kind_S <= Kind.IDEOGRAPH)
        maybe_S = ((gap_S > 0) & ~letters_S) | bracket_S | (kind_S == Kind.SYMBOL)
        open_S, gap_S, after_S = open_S[maybe_S], gap_S[maybe_S], after_S[maybe_S]
        if not len(open_S):
            break
        start_S = after_S + gap_S
        end_S = start_S.copy()
        _pass_part(code_N, kind_N, start_S, end_S, gap_S > 0, parity)
        found_S = end_S > start_S
        open_S, start_S, end_S = open_S[found_S], start_S[found_S], end_S[found_S]
        first_S = kind_N[start_S]
        closed_M[open_S] |= (first_S == Kind.CLOSER) | (first_S == Kind.QUOTE) | are(code_N[start_S], QUOTES)
        spread_M[open_S] |= code_N[start_S] == STOP
        after_M[open_S] = end_S
    return after_M, closed_M, spread_M


def _pass_closers(code_N: Codes, kind_N: Kinds, after_M: Ends, closed_M: Mask, both_M: Mask) -> None:
    """Move past attached closing quotes and brackets; with `both_M`, also quotes that open in other languages."""
    last = len(code_N) - 1
    for _ in range(_MOST_CLOSERS):
        kind_M = kind_N[np.minimum(after_M, last)]
        closer_M = (kind_M == Kind.CLOSER) | (kind_M == Kind.QUOTE)
        if len(code_N) and code_N.dtype != np.uint8:
            quote_M = both_M & are(code_N[np.minimum(after_M, last)], QUOTES)
            closer_M |= (
                quote_M
                & (kind_N[np.minimum(after_M + 1, last)] != Kind.LOWER)
                & ~_letter_follows(kind_N, after_M)
            )
        if not closer_M.any():
            break
        after_M += closer_M
        closed_M |= closer_M


def _letter_follows(kind_N: Kinds, after_M: Ends) -> Mask:
    kind_M = kind_N[np.minimum(after_M + 1, len(kind_N) - 1)]
    return (kind_M >= Kind.LOWER) & (kind_M <= Kind.IDEOGRAPH)


class _Parity:
    """Whether a straight double quote closes: the number of them before it in its line is odd."""

    def __init__(self, code_N: Codes, kind_N: Kinds) -> None:
        self.code_N, self.kind_N = code_N, kind_N
        self.quotes: Ends | None = None

    def closes(self, at_S: Ends) -> Mask:
        if self.quotes is None:
            quotes = np.flatnonzero(self.kind_N == Kind.QUOTE)
            self.quotes = quotes[are(self.code_N[quotes], _DOUBLE_QUOTE)]
            self.breaks = np.flatnonzero(self.kind_N == Kind.BREAK)
        line_S = np.append(0, self.breaks)[np.searchsorted(self.breaks, at_S)]
        before_S = np.searchsorted(self.quotes, at_S) - np.searchsorted(self.quotes, line_S)
        return before_S % 2 == 1


def _pass_part(
    code_N: Codes, kind_N: Kinds, start_S: Ends, end_S: Ends, gap_S: Mask, parity: _Parity
) -> None:
    """Move `end_S` past the part that begins at `start_S`, if it belongs to the sentence before."""
    last = len(code_N) - 1
    code_S, kind_S = code_N[start_S], kind_N[start_S]
    dots_S = (code_S == STOP) & (code_N[np.minimum(start_S + 1, last)] == STOP)
    mark_S = (kind_S >= Kind.TERMINATOR) & ~dots_S  # an ellipsis begins the next sentence
    double_S = are(code_S, _DOUBLE_QUOTE)
    closer_S = (kind_S == Kind.CLOSER) | are(code_S, "»”’")
    if double_S.any():
        closer_S[double_S] |= parity.closes(start_S[double_S])
    twin_S = (code_S == _APOSTROPHE) & (code_N[np.minimum(start_S + 1, last)] == _APOSTROPHE)
    closer_S |= twin_S
    foot_S, digits_S = code_S == _OPEN_BRACKET, np.zeros(len(start_S), np.int64)
    smile_S = gap_S & are(code_S, _SMILEY_START)
    face_S = np.zeros(len(start_S), np.bool_)
    for low, high in _EMOJI if code_N.dtype != np.uint8 else ():
        face_S |= (code_S >= low) & (code_S <= high)
    run_S = (mark_S | closer_S) & gap_S  # marks and closers up to white space
    running_S, mouth_S = run_S | foot_S | smile_S | face_S, np.zeros(len(start_S), np.bool_)
    length_S, done_S = np.zeros(len(start_S), np.int64), np.zeros(len(start_S), np.bool_)
    for ahead in range(_LONGEST_PART):
        at_S = np.minimum(start_S + ahead, last)
        one_S, one_kind_S = code_N[at_S], kind_N[at_S]
        white_S = one_kind_S <= Kind.BREAK
        done_S |= running_S & ~foot_S & white_S
        closes_S = running_S & foot_S & (one_S == _CLOSE_BRACKET) & (digits_S > 0)
        length_S = np.where(closes_S, ahead + 1, length_S)
        done_S |= closes_S
        running_S &= ~white_S & ~closes_S
        running_S &= ~run_S | (one_kind_S >= Kind.CLOSER) | (one_kind_S == Kind.QUOTE) | are(one_S, QUOTES)
        running_S &= ~foot_S | (ahead == 0) | (one_kind_S == Kind.DIGIT)
        running_S &= ~smile_S | are(one_S, _SMILEY)
        running_S &= ~face_S | (one_kind_S == Kind.MARK) | (one_kind_S == Kind.SYMBOL)
        mouth_S |= running_S & (ahead > 0) & are(one_S, _SMILEY_MOUTH)
        digits_S += foot_S & running_S & (one_kind_S == Kind.DIGIT)
        length_S += running_S & ~done_S
        if not running_S.any():
            break
    length_S = np.where(gap_S & (code_S == SHAD), 1, length_S)
    done_S |= gap_S & (code_S == SHAD)
    end_S += np.where(done_S & (~smile_S | mouth_S), length_S, 0)
