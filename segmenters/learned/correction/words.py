"""Words at places of a text, by a hash of 32 bits that the weights of `learned_v2` depend on.

Shape suffixes: N characters, M places, V buckets.
"""

import functools
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from segmenters.characters import Codes, Kind, Kinds
from segmenters.contract import Ends

LONGEST = 12
"""Characters of a word that are hashed: its first."""
_FARTHEST = 24
"""Characters back from the end of a word in which its start is looked for."""
AFFIX = 3
_FACTOR = np.uint32(0x9E3779B1)
_POWERS = np.array([pow(0x9E3779B1, number, 2**32) for number in range(LONGEST)], np.uint32)
_STOP = ord(".")
_OTHER = 0x10000

Hashes = NDArray[np.uint32]
Mask = NDArray[np.bool_]


@functools.cache
def _character_hashes() -> Hashes:
    """[65537] one number per code point of the Basic Multilingual Plane, the same for both cases; the last is for all
    others."""
    codes = [ord(char) if len(char) == 1 else ord("i") for char in map(str.lower, map(chr, range(_OTHER)))]
    hashes = np.array([*codes, _OTHER], np.uint32) + np.uint32(1)
    hashes = (hashes ^ (hashes >> np.uint32(15))) * np.uint32(0x2C1B3C6D)
    return hashes ^ (hashes >> np.uint32(12))


def mixed(hash_M: Hashes) -> Hashes:
    """The hashes with all bits mixed; 0 stays 0."""
    hash_M = (hash_M ^ (hash_M >> np.uint32(16))) * np.uint32(0x7FEB352D)
    hash_M = (hash_M ^ (hash_M >> np.uint32(15))) * np.uint32(0x846CA68B)
    return hash_M ^ (hash_M >> np.uint32(16))


class Words(NamedTuple):
    """The words at M places: letters and digits, and full stops between them; one ideograph."""

    start_M: Ends
    length_M: NDArray[np.uint8]
    """Characters that were looked at, at most `LONGEST`."""
    hash_M: Hashes
    """Of the first characters of the word, in lower case; 0 for none."""
    inner_M: Mask
    """It has inner full stops."""
    caps_M: Mask
    """It has more than one capital and no small letter."""


def in_words(code_N: Codes, kind_N: Kinds) -> Mask:
    """Which characters are part of a word: letters, digits, and full stops between two of them."""
    letter_N = (kind_N >= Kind.LOWER) & (kind_N <= Kind.MARK)
    stops = np.flatnonzero(code_N[1:-1] == _STOP) + 1
    word_N = letter_N.copy()
    word_N[stops] = letter_N[stops - 1] & letter_N[stops + 1]
    return word_N


def words_from(code_N: Codes, kind_N: Kinds, word_N: Mask, at_M: Ends) -> Words:
    """The words whose first character is at each place; `word_N` as of `in_words`."""
    return _hashed(code_N, kind_N, word_N, at_M, np.ones(len(at_M), np.bool_))


def words_before(code_N: Codes, kind_N: Kinds, word_N: Mask, at_M: Ends) -> Words:
    """The words whose last character is at each place (above 0); `word_N` as of `in_words`."""
    first = np.flatnonzero(word_N[1:] & ~word_N[:-1]) + 1
    inside_M = word_N[at_M]
    number_M = np.searchsorted(first, at_M, side="right") - 1
    start_M = np.maximum(first[np.maximum(number_M, 0)], at_M - _FARTHEST) if len(first) else at_M
    some_M = inside_M | (kind_N[at_M] == Kind.IDEOGRAPH)
    return _hashed(code_N, kind_N, word_N, np.where(inside_M, start_M, at_M), some_M)


def affixes(code_N: Codes, kind_N: Kinds, at_M: Ends, step: int) -> Hashes:
    """Hashes of `AFFIX` characters from each place on, forwards (`step` 1) or backwards (-1), up to white space."""
    hash_M, solid_M = np.zeros(len(at_M), np.uint32), np.ones(len(at_M), np.bool_)
    for number in range(AFFIX):
        place_M = np.clip(at_M + step * number, 0, len(code_N) - 1)
        solid_M &= kind_N[place_M] > Kind.BREAK
        hash_M = hash_M * _FACTOR + _of(code_N[place_M]) * solid_M
    return mixed(hash_M)


def _of(code_M: Codes) -> Hashes:
    return _character_hashes()[code_M if code_M.dtype == np.uint8 else np.minimum(code_M, _OTHER)]


def _hashed(code_N: Codes, kind_N: Kinds, word_N: Mask, start_M: Ends, some_M: Mask) -> Words:
    last, count = len(code_N) - 1, len(start_M)
    length_M, hash_M = np.zeros(count, np.uint8), np.zeros(count, np.uint32)
    inner_M, caps_M = np.zeros(count, np.bool_), np.zeros(count, np.bool_)
    lower_M, upper_M = np.zeros(count, np.bool_), np.zeros(count, np.bool_)
    inside = np.flatnonzero(some_M)  # the places whose word goes on
    for number in range(LONGEST):
        place_I = np.minimum(start_M[inside] + number, last)
        word_I = word_N[place_I]
        if number == 0 and code_N.dtype != np.uint8:
            single = inside[kind_N[place_I] == Kind.IDEOGRAPH]
            hash_M[single], length_M[single] = _of(code_N[start_M[single]]), 1
        inside, place_I = inside[word_I], place_I[word_I]
        if not len(inside):
            break
        code_I, kind_I = code_N[place_I], kind_N[place_I]
        hash_M[inside] += _of(code_I) * _POWERS[number]
        length_M[inside] += np.uint8(1)
        inner_M[inside] |= code_I == _STOP
        lower_M[inside] |= kind_I == Kind.LOWER
        upper_I = kind_I == Kind.UPPER
        caps_M[inside] |= upper_I & upper_M[inside]
        upper_M[inside] |= upper_I
    return Words(start_M, length_M, mixed(hash_M), inner_M, caps_M & ~lower_M)


def rows_of(hash_M: Hashes, check_V: NDArray[np.uint16]) -> NDArray[np.int64]:
    """Row of a table for each word: 1 + its bucket if the check agrees, else 0 for unknown."""
    bucket_M = (hash_M & np.uint32(len(check_V) - 1)).astype(np.int64)
    return np.where(check_V[bucket_M] == checks(hash_M), bucket_M + 1, 0)


def checks(hash_M: Hashes) -> NDArray[np.uint16]:
    """[M] the upper bits of the hashes; 0, which stands for an empty bucket, becomes 1."""
    return np.maximum((hash_M >> np.uint32(16)).astype(np.uint16), 1)
