"""The places where the answer of the rule is open, and what is around each.

A place is the first character of a token (a run of characters without white space) after a space. Places after line
breaks and inside tokens are the rule's alone. All features are categories; none looks beyond its text.

Shape suffixes: N characters, W tokens, M places, C features, K words, T texts.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from segmenters.characters import Codes, Kind, Kinds
from segmenters.contract import Ends
from segmenters.learned.correction.surroundings import NUM_HABITS, NUM_SURROUNDINGS, surroundings
from segmenters.learned.correction.words import Hashes, WordIndex, Words, affixes

Columns = NDArray[np.int16]

_OPEN_BEFORE = np.zeros(16, np.bool_)
_OPEN_BEFORE[[Kind.UPPER, Kind.DIGIT, Kind.DASH]] = True
"""Kinds of first characters before which the answer is open after any token."""
_OPEN_AFTER_MARK = np.zeros(16, np.bool_)
_OPEN_AFTER_MARK[[Kind.LETTER, Kind.OPENER, Kind.QUOTE]] = True
"""Those before which it is open after a token that ends in a mark."""
_CLOSING = np.zeros(16, np.bool_)
_CLOSING[[Kind.QUOTE, Kind.CLOSER, Kind.SYMBOL]] = True
_HANGUL = 0xAC00, 0xD7A3
_HANGUL_ENDINGS = np.array(sorted(map(ord, "다요까죠네라자지야어아해줘봐냐니나군걸래려오")), np.uint32)
"""Last syllables of Korean verbs, after which a sentence without a mark may end."""
_MOST_CLOSERS = 3
_LONGEST_BULLET, _DEEPEST_BULLET = 6, 8
"""Characters of a bullet and of its indent."""
_NEAR = 3
"""Tokens on each side whose case is a feature."""
_CASE = np.full(16, 2, np.int16)
_CASE[[Kind.LOWER, Kind.LETTER, Kind.IDEOGRAPH]] = 0
_CASE[Kind.UPPER] = 1
NUM_SIGNS = 128

FEATURES = {
    "edge": 512,
    "last sign": NUM_SIGNS,
    "sign before it": NUM_SIGNS,
    "first sign": NUM_SIGNS,
    "mark": NUM_SIGNS,
    "word before": 64,
    "word after": 64,
    "second word before": 64,
    "second word after": 64,
    "cases": 729,
    "distances": 256,
    "text": 64,
    "statistics": 512,
    "statistics farther": 64,
    "surroundings": NUM_SURROUNDINGS,
    "habits": NUM_HABITS,
}
"""Number of values of each feature. Weights of earlier versions have the first `FEATURES_OF_EARLIER` alone."""
STATISTICS = list(FEATURES).index("statistics")
FEATURES_OF_EARLIER = 14
WORDS = ("before", "after", "second before", "second after", "end", "start")
"""The words around a place, by hash; the last two are the last letters before it, the first after it."""
WHOLE_WORDS = 4


class Places(NamedTuple):
    """M places."""

    at_M: Ends
    text_M: Ends
    """Number of the text in its batch."""
    rule_M: NDArray[np.bool_]
    """Whether the rule begins a sentence there."""
    columns_MC: Columns
    """Values of `FEATURES`, those of the statistics of words not yet filled in."""
    words_MK: Hashes
    """Hashes of `WORDS`, 0 for none."""


def places(code_N: Codes, kind_N: Kinds, rule_starts: Ends, text_starts: Ends, hangul: bool = True) -> Places:
    """The open places of a batch of texts, in order; with `hangul` those after Korean verbs too."""
    solid_N = kind_N > Kind.BREAK
    edge_W = (
        np.flatnonzero(solid_N[1:] != solid_N[:-1]) + 1
    )  # start, end, start, end ...; the batch ends in a break
    start_W, end_W = edge_W[0::2], edge_W[1::2]
    if len(start_W) < 2:
        return _none()
    start_N = np.zeros(len(kind_N) + 1, np.bool_)
    start_N[rule_starts] = True
    gap_W = start_W[1:] - end_W[:-1]
    first_W, last_W = kind_N[start_W], kind_N[end_W - 1]
    lastly_W = last_W[:-1]
    open_W = _OPEN_BEFORE[first_W[1:]] | (lastly_W >= Kind.TERMINATOR) | start_N[start_W[1:]]
    open_W |= _OPEN_AFTER_MARK[first_W[1:]] & (lastly_W > Kind.IDEOGRAPH)
    closing = np.flatnonzero(_CLOSING[lastly_W])
    open_W[closing] |= _after_mark(kind_N, end_W[closing])
    if hangul and code_N.dtype != np.uint8:
        code_W = code_N[end_W[:-1] - 1]
        syllables = np.flatnonzero((code_W >= _HANGUL[0]) & (code_W <= _HANGUL[1]))
        open_W[syllables] |= np.isin(code_W[syllables], _HANGUL_ENDINGS)
    # A gap with a line break is the rule's. All white space of two characters or more is looked at for one.
    open_W &= kind_N[end_W[:-1]] == Kind.SPACE
    wide = np.flatnonzero(open_W & (gap_W > 1))
    if len(wide):
        breaks = np.flatnonzero(kind_N == Kind.BREAK)
        open_W[wide] = np.searchsorted(breaks, end_W[wide]) == np.searchsorted(breaks, start_W[wide + 1])
    number_M = np.flatnonzero(open_W) + 1
    number_M = number_M[
        ~_bullets(kind_N, start_W[number_M - 1], end_W[number_M - 1]) | start_N[start_W[number_M]]
    ]
    if not len(number_M):
        return _none()
    return _described(
        code_N, kind_N, start_W, end_W, _CASE[first_W], start_N, rule_starts, text_starts, number_M
    )


def _none() -> Places:
    return Places(
        np.empty(0, np.int64),
        np.empty(0, np.int64),
        np.empty(0, np.bool_),
        np.empty((0, len(FEATURES)), np.int16),
        np.empty((0, len(WORDS)), np.uint32),
    )


def _after_mark(kind_N: Kinds, end_W: Ends) -> NDArray[np.bool_]:
    """Whether a terminator is before the closing quotes and brackets at the end of the token."""
    found_W = np.zeros(len(end_W), np.bool_)
    for back in range(2, _MOST_CLOSERS + 2):
        found_W |= kind_N[np.maximum(end_W - back, 0)] >= Kind.TERMINATOR
    return found_W


def _bullets(kind_N: Kinds, start_M: Ends, end_M: Ends) -> NDArray[np.bool_]:
    """Whether the token is one sign, or more of the same kind, at the start of its line: `-`, `*`, `##`, `>`."""
    sign_M = (kind_N[start_M] > Kind.IDEOGRAPH) & (kind_N[start_M] < Kind.TERMINATOR)
    sign_M &= (kind_N[end_M - 1] == kind_N[start_M]) & (end_M - start_M <= _LONGEST_BULLET)
    few = np.flatnonzero(sign_M)
    before = start_M[few] - 1
    for _ in range(_DEEPEST_BULLET):
        before = before - ((kind_N[before] == Kind.SPACE) & (before > 0))
    sign_M[few] = kind_N[before] == Kind.BREAK
    return sign_M


def _described(
    code_N: Codes,
    kind_N: Kinds,
    start_W: Ends,
    end_W: Ends,
    case_W: NDArray[np.int16],
    start_N: NDArray[np.bool_],
    rule_starts: Ends,
    text_starts: Ends,
    number_M: Ends,
) -> Places:
    last = len(code_N) - 1
    at_M, end_M = start_W[number_M], end_W[number_M - 1]
    token_M = start_W[number_M - 1]
    # Back over the marks and closers at the end of the token before, to its word; the first mark is a feature.
    back_M = end_M - 1
    mark_M = np.zeros(len(at_M), np.int16)
    for _ in range(4):
        skip_M = (kind_N[back_M] > Kind.IDEOGRAPH) & (back_M > token_M)
        if not skip_M.any():
            break
        mark_M = np.where(skip_M, _signs(code_N[back_M]), mark_M)
        back_M = back_M - skip_M
    ahead_M, after_end_M = at_M, end_W[number_M]
    for _ in range(3):
        skip_M = (kind_N[ahead_M] > Kind.IDEOGRAPH) & (ahead_M < after_end_M - 1)
        if not skip_M.any():
            break
        ahead_M = ahead_M + skip_M
    count = len(start_W)
    text_M = np.searchsorted(text_starts, at_M, side="right") - 1
    low_M = text_starts[text_M]  # the first character of the text
    second_M = np.maximum(number_M - 2, 0)
    index = WordIndex(code_N, kind_N)
    before, after = index.words_before(back_M), index.words_from(ahead_M)
    before2 = _blank(
        index.words_before(end_W[second_M] - 1),
        (number_M > 1) & (start_W[second_M] >= low_M),
    )
    next_M = np.minimum(number_M + 1, count - 1)
    text_end_M = np.append(text_starts[1:], last + 1)[text_M]
    after2 = _blank(
        index.words_from(start_W[next_M]),
        (start_W[next_M] < text_end_M) & (next_M > number_M),
    )
    rule_M = start_N[at_M]
    first_kind_M, last_kind_M = kind_N[at_M].astype(np.int16), kind_N[end_M - 1].astype(np.int16)
    cases_M = np.zeros(len(at_M), np.int16)
    for offset in (*range(-_NEAR, 0), *range(1, _NEAR + 1)):
        near_M = np.clip(number_M + offset, 0, count - 1)
        inside_M = (near_M == number_M + offset) & (start_W[near_M] >= low_M) & (start_W[near_M] < text_end_M)
        cases_M = cases_M * 3 + np.where(inside_M, case_W[near_M], 2)
    columns = (
        rule_M * np.int16(256) + last_kind_M * np.int16(16) + first_kind_M,
        _signs(code_N[end_M - 1]),
        np.where(end_M - 2 >= token_M, _signs(code_N[end_M - 2]), 0),
        np.where(first_kind_M > Kind.IDEOGRAPH, _signs(code_N[at_M]), first_kind_M),
        mark_M,
        _shapes(before, kind_N[before.start_M]),
        _shapes(after, kind_N[ahead_M]),
        _shapes(before2, kind_N[before2.start_M]),
        _shapes(after2, kind_N[start_W[next_M]]),
        cases_M,
        _distances(kind_N, at_M, rule_starts, low_M, text_end_M),
        _text_features(text_M, last_kind_M, first_kind_M),
        np.zeros(len(at_M), np.int16),
        np.zeros(len(at_M), np.int16),
        *surroundings(kind_N, start_W, end_W, number_M, text_M, text_starts),
    )
    words = (
        before.hash_M,
        after.hash_M,
        before2.hash_M,
        after2.hash_M,
        affixes(code_N, kind_N, back_M, -1),
        affixes(code_N, kind_N, ahead_M, 1),
    )
    return Places(at_M, text_M, rule_M, np.stack(columns, axis=1).astype(np.int16), np.stack(words, axis=1))


def _blank(words: Words, real_M: NDArray[np.bool_]) -> Words:
    """The words, with none where `real_M` is False: those of another text."""
    start_M, length_M, hash_M, inner_M, caps_M = words
    return Words(start_M, length_M * real_M, hash_M * real_M, inner_M & real_M, caps_M & real_M)


def _signs(code_M: Codes) -> NDArray[np.int16]:
    """ASCII signs as they are; others hashed to the values below the space."""
    other_M = (code_M ^ (code_M >> 5)) & 31
    return np.where(code_M < NUM_SIGNS, code_M, other_M).astype(np.int16)


def _shapes(words: Words, kind_M: Kinds) -> NDArray[np.int16]:
    length_M = np.minimum(words.length_M, 5).astype(np.int16)
    case_M = np.where(kind_M == Kind.UPPER, 1, np.where(kind_M == Kind.DIGIT, 2, 0)).astype(np.int16)
    case_M[length_M == 0] = 0  # the character may be of another text
    return (length_M * 3 + case_M) * 2 + np.where(case_M == 1, words.caps_M, words.inner_M)


def _log(distance_M: Ends) -> NDArray[np.int16]:
    """0 to 15: about two steps per doubling, from 2 to 512 characters."""
    return np.clip(2 * np.log2(np.maximum(distance_M, 1).astype(np.float32)) - 2, 0, 15).astype(np.int16)


def _distances(
    kind_N: Kinds, at_M: Ends, rule_starts: Ends, low_M: Ends, text_end_M: Ends
) -> NDArray[np.int16]:
    """Characters since the sentence began by the rule, and up to where the next one begins or the text ends."""
    starts = np.append(rule_starts, len(kind_N))
    number_M = np.searchsorted(rule_starts, at_M)
    before_M = np.where(number_M > 0, starts[np.maximum(number_M - 1, 0)], 0)
    after_M = starts[np.searchsorted(rule_starts, at_M, side="right")]
    since_M = at_M - np.maximum(before_M, low_M)
    return _log(since_M) * np.int16(16) + _log(np.minimum(after_M, text_end_M) - at_M)


def _text_features(
    text_M: Ends, last_kind_M: NDArray[np.int16], first_kind_M: NDArray[np.int16]
) -> NDArray[np.int16]:
    """How often the places of the text have a mark before them, how many marks have a capital after them, and how
    long the text is: 4 steps each."""
    count = int(text_M[-1]) + 1
    marked_M = last_kind_M >= Kind.TERMINATOR
    places_T = np.bincount(text_M, minlength=count)
    marked_T = np.bincount(text_M, marked_M, count)
    upper_T = np.bincount(text_M, marked_M & (first_kind_M == Kind.UPPER), count)
    share_T = np.minimum(4 * marked_T / np.maximum(places_T, 1), 3).astype(np.int16)
    capital_T = np.minimum(4 * upper_T / np.maximum(marked_T, 1), 3).astype(np.int16)
    capital_T[marked_T == 0] = 3
    size_T = np.minimum(np.log2(places_T + 1) / 2, 3).astype(np.int16)
    return (share_T * 16 + capital_T * 4 + size_T)[text_M]
