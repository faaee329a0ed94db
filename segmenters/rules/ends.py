"""Which terminators end a sentence.

Shape suffixes: N characters, M terminators, S the single full stops among them.
"""

import numpy as np

from segmenters.characters import Codes, Kind, Kinds
from segmenters.contract import Ends
from segmenters.rules.full_stops import stop_goes_on
from segmenters.rules.kinds import ELLIPSES, QUOTES, are
from segmenters.rules.marks import Marks
from segmenters.rules.sorted_offsets import contains, merged
from segmenters.rules.tails import after_tails
from segmenters.rules.unspaced import between_ideographs, joined, run_together
from segmenters.rules.words import Mask

_MOST_OPENERS = 3
_MOST_MARKS = 8
"""Terminators in a row that are looked back over for the start of an ellipsis."""
_LETTER_I = ord("I")
_FULL_STOPS = ".․"
_CERTAIN_LETTERS = 4
"""Letters in lower case before a mark that is no abbreviation's."""
_CARELESS = 0.25
"""Share of the final marks of a text with lower case after them from which on its author begins sentences so."""


def sentence_ends(
    code_N: Codes,
    kind_N: Kinds,
    start_W: Ends,
    text_starts: Ends,
    lower_breaks: Ends,
    more_marks: Ends,
    item_starts: Ends,
) -> Ends:
    """Offsets after the sentences that a terminator ends, with their tails.

    `lower_breaks` are starts of lines in lower case after a break that counts as a space. `more_marks` are further
    characters that are terminators where they stand. `item_starts` are starts of items of lists inside lines.
    """
    mark_M = np.flatnonzero(kind_N >= Kind.TERMINATOR)
    mark_M = mark_M[kind_N[mark_M + 1] < Kind.TERMINATOR]  # the last of a run
    if len(more_marks):
        mark_M = merged(mark_M, more_marks)
    marks = _around(code_N, kind_N, start_W, mark_M)
    return marks.after_M[_ends(code_N, kind_N, start_W, marks, text_starts, lower_breaks, item_starts)]


def _around(code_N: Codes, kind_N: Kinds, start_W: Ends, mark_M: Ends) -> Marks:
    after_M, closed_M, spread_M = after_tails(code_N, kind_N, mark_M)
    own_M = np.append(True, np.maximum.accumulate(after_M)[:-1] <= mark_M[1:])[: len(mark_M)]  # not in a tail
    mark_M, after_M, closed_M, spread_M = (one[own_M] for one in (mark_M, after_M, closed_M, spread_M))
    last = len(code_N) - 1
    next_M = np.minimum(after_M + (kind_N[after_M] == Kind.SPACE), last)
    same_line_M = np.ones(len(after_M), np.bool_)
    far = np.flatnonzero(kind_N[next_M] <= Kind.BREAK)  # more white space than one space
    next_M[far] = np.minimum(start_W[np.searchsorted(start_W, after_M[far])], last)
    breaks = np.flatnonzero(kind_N == Kind.BREAK)
    same_line_M[far] = np.searchsorted(breaks, after_M[far]) == np.searchsorted(
        breaks, next_M[far], side="right"
    )
    first_M = next_M
    for _ in range(_MOST_OPENERS):
        kind_M = kind_N[first_M]
        opens_M = (kind_M == Kind.OPENER) | (kind_M == Kind.QUOTE) | are(code_N[first_M], QUOTES)
        if not opens_M.any():
            break
        first_M = np.minimum(first_M + opens_M, last)
    return Marks(mark_M, after_M, next_M, first_M, same_line_M, closed_M, spread_M)


def _ends(
    code_N: Codes,
    kind_N: Kinds,
    start_W: Ends,
    marks: Marks,
    text_starts: Ends,
    lower_breaks: Ends,
    item_starts: Ends,
) -> Mask:
    """Whether each terminator ends a sentence."""
    mark_M, after_M, next_M = marks.mark_M, marks.after_M, marks.next_M
    code_M, next_kind_M = code_N[mark_M], kind_N[next_M]
    spaced_M = kind_N[after_M] <= Kind.BREAK
    at_break_M = contains(lower_breaks, next_M)
    lower_M = marks.same_line_M & (next_kind_M == Kind.LOWER)
    stop_M = are(code_M, _FULL_STOPS)
    run_M = kind_N[np.maximum(mark_M - 1, 0)] >= Kind.TERMINATOR
    ellipsis_M = stop_M & (run_M | marks.spread_M) | are(code_M, ELLIPSES)
    single_M = stop_M & ~ellipsis_M
    careless_M = _careless(kind_N, start_W, marks, spaced_M & lower_M & ~at_break_M, text_starts)
    pronoun_M = (code_N[next_M] == _LETTER_I) & (
        kind_N[np.minimum(next_M + 1, len(kind_N) - 1)] == Kind.SPACE
    )
    goes_on_M = marks.same_line_M & marks.spread_M & pronoun_M  # ". . . I" begins no sentence
    goes_on_M |= lower_M & ~at_break_M & (marks.closed_M | ellipsis_M | ~(stop_M | careless_M))
    pause_M = (next_kind_M == Kind.PAUSE) & (kind_N[np.minimum(next_M + 1, len(kind_N) - 1)] == Kind.SPACE)
    goes_on_M |= marks.same_line_M & pause_M
    goes_on_M |= marks.same_line_M & _dash_and_lower(code_N, kind_N, next_M)
    goes_on_M[ellipsis_M] |= _opens(code_N, kind_N, mark_M[ellipsis_M])
    ends_M = spaced_M & ~goes_on_M
    chosen = np.flatnonzero(single_M & ends_M & marks.same_line_M)
    if len(chosen):
        ends_M[chosen] = ~stop_goes_on(
            code_N, kind_N, start_W, marks, chosen, careless_M | at_break_M, ends_M, item_starts
        )
    if code_N.dtype != np.uint8:
        free_M = kind_N[mark_M] == Kind.FREE_TERMINATOR
        ends_M |= free_M | between_ideographs(code_N, kind_N, marks)
        ends_M &= ~(free_M & joined(code_N, kind_N, marks))
    return ends_M | run_together(code_N, kind_N, marks)


def _careless(kind_N: Kinds, start_W: Ends, marks: Marks, lower_M: Mask, text_starts: Ends) -> Mask:
    """Whether the text of the mark often has lower case after final marks."""
    text_M = np.searchsorted(text_starts, marks.mark_M, side="right")
    upper_M = (kind_N[marks.first_M] == Kind.UPPER) & (kind_N[marks.after_M] <= Kind.BREAK)
    chosen = np.flatnonzero((lower_M | upper_M) & ~marks.closed_M)
    for back in range(1, _CERTAIN_LETTERS + 1):
        chosen = chosen[kind_N[np.maximum(marks.mark_M[chosen] - back, 0)] == Kind.LOWER]
    texts = len(text_starts) + 1
    first_T = np.append(0, start_W[np.searchsorted(start_W, text_starts)])
    first_kind_T = kind_N[np.minimum(first_T, len(kind_N) - 1)]
    lower_T = np.bincount(text_M[chosen], lower_M[chosen], texts) + (first_kind_T == Kind.LOWER)
    upper_T = np.bincount(text_M[chosen], upper_M[chosen], texts) + (first_kind_T == Kind.UPPER)
    itself_M = np.zeros(len(text_M), np.int64)
    itself_M[chosen] = lower_M[chosen]
    others_M = lower_T[text_M] - itself_M
    return others_M > _CARELESS * (others_M + upper_T[text_M])


def _dash_and_lower(code_N: Codes, kind_N: Kinds, next_M: Ends) -> Mask:
    """Whether a dash and lower case follow: a reporting clause, or an aside."""
    last = len(code_N) - 1
    second_M = kind_N[np.minimum(next_M + 1, last)]
    third_M = kind_N[np.minimum(next_M + 2, last)]
    return (kind_N[next_M] == Kind.DASH) & (
        (second_M == Kind.LOWER) | (second_M == Kind.SPACE) & (third_M == Kind.LOWER)
    )


def _opens(code_N: Codes, kind_N: Kinds, mark_M: Ends) -> Mask:
    """Whether the ellipsis is the beginning of a sentence, or stands for words left out: `... and`, `(...)`, `[…]`."""
    start_M, inside_M = mark_M.copy(), np.ones(len(mark_M), np.bool_)
    for _ in range(_MOST_MARKS):
        inside_M &= kind_N[np.maximum(start_M - 1, 0)] >= Kind.TERMINATOR
        if not inside_M.any():
            break
        start_M -= inside_M
    before_M, earlier_M = kind_N[np.maximum(start_M - 1, 0)], kind_N[np.maximum(start_M - 2, 0)]
    ended_M = (before_M == Kind.SPACE) & (earlier_M >= Kind.TERMINATOR)
    return (before_M == Kind.OPENER) | (before_M == Kind.BREAK) | ended_M
