"""Line breaks that end a sentence, and those inside a hard-wrapped paragraph, which are white space.

A paragraph is hard-wrapped if the first word of a line had no room at the end of the line before.

Shape suffixes: N characters, B line breaks (of CRLF only the LF), K kept breaks.
"""

import numpy as np

from segmenters.characters import Codes, Kind, Kinds
from segmenters.contract import Ends
from segmenters.rules.kinds import are
from segmenters.rules.sorted_offsets import contains
from segmenters.rules.words import Mask, words_before

SHORTEST, LONGEST = 40, 120
"""Widths to which text is wrapped, in characters."""
_TIGHT = 0.6
"""Least share of the breaks after lines of more than half the width where the next word had no room."""
_TOO_WIDE = 0.2
"""Most of the lines of wrapped text that may be wider than its width: code, tables, addresses."""
_LEAST = 2
"""Fewest such breaks."""
_MOST_ROOM = 40
"""Characters left in a line, from which on it is not full, whatever the next word."""
_SLACK = 8
"""Characters by which the longest lines of wrapped text exceed the width that is found."""
_BULLETS = "*+•◦▪‣⁃#|>=~_●○■□➢✓→"
_HYPHEN, _TICK = map(ord, "-`")


def hard_breaks(
    code_N: Codes, kind_N: Kinds, start_W: Ends, text_starts: Ends, by_line: bool
) -> tuple[Ends, Ends, Kinds]:
    """Starts of the words before which a line break ends the sentence, starts of the lines that go on in lower case
    without being wrapped, and the kinds with the breaks inside sentences as spaces.

    `start_W` are the starts of words, then the length of the batch. With `by_line`, a single break ends a sentence
    unless the next line goes on; without it, only an empty line does. The break before a text is always kept.
    """
    break_B = np.flatnonzero(kind_N == Kind.BREAK)
    end_B, after_B = break_B, break_B + 1
    if not len(end_B):
        return end_B, end_B, kind_N
    word_B = np.searchsorted(start_W, after_B)  # the first word after the break
    is_last_B = np.append(word_B[1:] != word_B[:-1], True)
    is_first_B = np.append(True, is_last_B[:-1])
    alone_B = is_last_B & is_first_B & (word_B < len(start_W) - 1)
    alone_B &= ~contains(text_starts, after_B)
    start_B = start_W[word_B]
    wrapped_B = _wrapped(code_N, kind_N, start_W, end_B, word_B, alone_B, text_starts) if by_line else alone_B
    lower_B = alone_B & ~wrapped_B & (kind_N[np.minimum(start_B, len(kind_N) - 1)] == Kind.LOWER)
    if by_line:
        lower_B &= ~_listed(kind_N, end_B, after_B, alone_B)
    soft_B = wrapped_B | lower_B
    hard_W = start_W[word_B[is_last_B & ~soft_B & (word_B < len(start_W) - 1)]]
    if soft_B.any():
        kind_N = kind_N.copy()
        kind_N[end_B[soft_B]] = Kind.SPACE
    return hard_W, start_B[lower_B], kind_N


def _listed(kind_N: Kinds, end_B: Ends, after_B: Ends, alone_B: Mask) -> Mask:
    """Whether the break is in a list of words: short lines of a paragraph that begins in lower case."""
    start_B = np.append(0, after_B[:-1])  # of the line that the break ends
    first_B = np.maximum.accumulate(np.where(np.append(False, alone_B[:-1]), 0, start_B))  # of its paragraph
    is_lower_B = kind_N[np.minimum(first_B, len(kind_N) - 1)] == Kind.LOWER
    return is_lower_B & (end_B - start_B < SHORTEST) & (kind_N[end_B - 1] <= Kind.LETTER)


def _wrapped(
    code_N: Codes, kind_N: Kinds, start_W: Ends, end_B: Ends, word_B: Ends, alone_B: Mask, text_starts: Ends
) -> Mask:
    """Whether the break is inside a hard-wrapped paragraph. `word_B` are the numbers of the words after the breaks."""
    found_B = np.zeros(len(end_B), np.bool_)
    length_B = end_B - np.append(0, end_B[:-1] + 1)
    kept = np.flatnonzero(alone_B & (length_B >= SHORTEST // 2))
    if not len(kept):
        return found_B
    length_K, next_K = length_B[kept], start_W[word_B[kept]]
    text_K = np.searchsorted(text_starts, end_B[kept], side="right")
    width_K = _widths(length_K, text_K)
    room_K = width_K - length_K - 1
    wide_K = length_K > width_K + _SLACK
    forced_K = (length_K >= SHORTEST) & (room_K < _MOST_ROOM)
    following_K = start_W[np.minimum(word_B[kept] + 1, len(start_W) - 1)]
    forced_K &= following_K - 1 - next_K > room_K  # one space after the word
    half_K = length_K * 2 > width_K
    texts = int(text_K.max()) + 1
    forced_T, half_T, wide_T, lines_T = (
        np.bincount(text_K, weights, texts) for weights in (forced_K, half_K, wide_K, np.ones(len(kept)))
    )
    is_wrapped_T = (forced_T >= _LEAST) & (forced_T >= _TIGHT * half_T) & (wide_T <= _TOO_WIDE * lines_T)
    joined_K = forced_K & is_wrapped_T[text_K] & ~wide_K
    # A line that ends in a word such as "the" goes on.
    late_K = end_B[kept] - 1
    not_lower_K = kind_N[np.minimum(next_K, len(kind_N) - 1)] != Kind.LOWER
    asked = np.flatnonzero(~joined_K & (length_K >= SHORTEST) & (kind_N[late_K] == Kind.LOWER) & not_lower_K)
    word = words_before(code_N, kind_N, end_B[kept[asked]])
    joined_K[asked] = word.among("binder") & (kind_N[end_B[kept[asked]] - word.length_M] == Kind.LOWER)
    last = len(code_N) - 1
    code_K, third_K = code_N[np.minimum(next_K, last)], code_N[np.minimum(next_K + 2, last)]
    item_K = are(code_K, _BULLETS) | (code_K == _TICK) & (third_K == _TICK)
    item_K |= (code_K == _HYPHEN) & (kind_N[np.minimum(next_K + 1, last)] == Kind.SPACE)
    joined_K &= ~item_K
    found_B[kept[joined_K]] = True
    return found_B


def _widths(length_K: Ends, text_K: Ends) -> Ends:
    """The width of the text of each line: most of its lines are at most so long, the longest such a length."""
    fit_K = (length_K >= SHORTEST) & (length_K <= LONGEST)
    keys = np.sort((text_K[fit_K] * (LONGEST + 1) + length_K[fit_K]).astype(np.int32))
    if not len(keys):
        return np.full(len(length_K), LONGEST)
    edges = np.arange(int(text_K.max()) + 2, dtype=np.int32) * (LONGEST + 1)
    first_T = np.searchsorted(keys, edges)  # the last is one too many
    place_T = first_T[:-1] + (first_T[1:] - first_T[:-1]) * 9 // 10
    width_T = keys[np.minimum(place_T, len(keys) - 1)] - edges[:-1]
    return np.where(first_T[1:] > first_T[:-1], width_T, LONGEST)[text_K]
