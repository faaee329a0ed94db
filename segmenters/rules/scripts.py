"""Ends of sentences that only one script has.

Shape suffixes: N characters, S those that are looked at.
"""

import numpy as np

from segmenters.characters import Codes, Kind, Kinds
from segmenters.contract import Ends
from segmenters.rules.kinds import ARMENIAN, HANGUL, are
from segmenters.rules.sorted_offsets import merged
from segmenters.rules.words import Mask, is_among, words_after

_COLON, _SEMICOLON, _LETTER_I = map(ord, ":;I")
_ETHIOPIC_COLON = 0x1361
_GREEK = (0x370, 0x3FF), (0x1F00, 0x1FFF)
_NI, _DA, _YO = map(ord, "니다요")
_VOWELS, _FINALS = 21, 28
_VERB_VOWELS = (0, 1, 4, 5, 6, 7, 9, 10, 14, 20)
"""Vowels before the polite ending `yo` in verbs: a, ae, eo, e, yeo, ye, wa, wae, wo, i; not as in the noun `pil-yo`."""


def other_marks(code_N: Codes, kind_N: Kinds) -> Ends:
    """Characters that end a sentence where they stand: a semicolon before a capitalised word that begins sentences; the
    Armenian colon; the Greek question mark, which looks like a semicolon; two Ethiopic colons."""
    pauses = np.flatnonzero(kind_N == Kind.PAUSE)
    colons, semicolons = pauses[code_N[pauses] == _COLON], pauses[code_N[pauses] == _SEMICOLON]
    marks = [_before_starters(code_N, kind_N, semicolons)]
    if code_N.dtype != np.uint8:
        at_S = colons
        before_S = code_N[np.maximum(at_S - 1, 0)]
        marks.append(at_S[(before_S >= ARMENIAN[0]) & (before_S <= ARMENIAN[1])])
        at_S = semicolons
        before_S = code_N[np.maximum(at_S - 1, 0)]
        marks += [at_S[(before_S >= first) & (before_S <= last)] for first, last in _GREEK]
        at_S = np.flatnonzero(kind_N == Kind.SYMBOL)
        at_S = at_S[code_N[at_S] == _ETHIOPIC_COLON]
        marks.append(at_S[code_N[np.maximum(at_S - 1, 0)] == _ETHIOPIC_COLON])
    return merged(*marks)


def _before_starters(code_N: Codes, kind_N: Kinds, at_S: Ends) -> Ends:
    last = len(code_N) - 1
    word_S = np.minimum(at_S + 2, last)
    at_S = at_S[(kind_N[np.minimum(at_S + 1, last)] == Kind.SPACE) & (kind_N[word_S] == Kind.UPPER)]
    if not len(at_S):
        return at_S
    length_S, classes_S = words_after(code_N, kind_N, at_S + 2)
    pronoun_S = (length_S == 1) & (code_N[at_S + 2] == _LETTER_I)
    return at_S[is_among(classes_S, "starter") & ~pronoun_S]


def ends_without_mark(code_N: Codes, kind_N: Kinds) -> Ends:
    """Offsets after what ends a sentence without a mark: a smiley before a capital, and a Korean verb in a polite final
    form (`-nida`, `-yo`) before a space."""
    smileys = _smileys(code_N, kind_N)
    return smileys if code_N.dtype == np.uint8 else np.concatenate([smileys, _polite_verbs(code_N, kind_N)])


def _smileys(code_N: Codes, kind_N: Kinds) -> Ends:
    last = len(code_N) - 1
    at_S = np.flatnonzero(kind_N == Kind.PAUSE)
    at_S = at_S[(code_N[at_S] == _COLON) | (code_N[at_S] == _SEMICOLON)]
    at_S = at_S[
        (kind_N[np.maximum(at_S - 1, 0)] == Kind.SPACE) & (kind_N[np.minimum(at_S + 1, last)] > Kind.BREAK)
    ]
    end_S = at_S + 1
    end_S = end_S + are(code_N[end_S], "-^'")
    end_S = np.minimum(end_S + are(code_N[np.minimum(end_S, last)], "()DPp"), last)
    mouth_S = are(code_N[end_S - 1], "()DPp") & (kind_N[end_S] == Kind.SPACE)
    return end_S[mouth_S & (kind_N[np.minimum(end_S + 1, last)] == Kind.UPPER)]


def _polite_verbs(code_N: Codes, kind_N: Kinds) -> Ends:
    last = len(code_N) - 1
    at_S = np.flatnonzero(kind_N <= Kind.BREAK)[1:] - 1  # the last of each word
    at_S = at_S[(code_N[at_S] == _DA) | (code_N[at_S] == _YO)]
    at_S = at_S[
        (kind_N[np.minimum(at_S + 1, last)] == Kind.SPACE) & _is_hangul(code_N[np.minimum(at_S + 2, last)])
    ]
    before_S = code_N[np.maximum(at_S - 1, 0)].astype(np.int64)
    vowel_S = (before_S - HANGUL[0]) // _FINALS % _VOWELS
    open_S = _is_hangul(before_S) & ((before_S - HANGUL[0]) % _FINALS == 0)
    verb_S = np.where(code_N[at_S] == _DA, before_S == _NI, open_S & np.isin(vowel_S, _VERB_VOWELS))
    return at_S[verb_S] + 1


def _is_hangul(code_S: Codes | Ends) -> Mask:
    return (code_S >= HANGUL[0]) & (code_S <= HANGUL[1])
