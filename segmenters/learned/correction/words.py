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
_UPPER, _INNER = 16, 256
"""Of a word small letters count 1, capitals and full stops so much: its sum tells how many there are of each."""
_COUNTED = np.zeros(16, np.uint16)
_COUNTED[[Kind.LOWER, Kind.UPPER, Kind.TERMINATOR]] = 1, _UPPER, _INNER

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


class WordIndex:
    """All words of a text: letters and digits, and full stops between two of them."""

    def __init__(self, code_N: Codes, kind_N: Kinds) -> None:
        self.code_N, self.kind_N = code_N, kind_N
        letter_N = (kind_N >= Kind.LOWER) & (kind_N <= Kind.MARK)
        stops = np.flatnonzero(code_N[1:-1] == _STOP) + 1
        self.word_N = letter_N.copy()
        self.word_N[stops] = letter_N[stops - 1] & letter_N[stops + 1]
        edges = (
            np.flatnonzero(self.word_N[1:] != self.word_N[:-1]) + 1
        )  # the batch begins and ends with a break
        self.first, self.end = edges[0::2], edges[1::2]

    def words_from(self, at_M: Ends) -> Words:
        """The words whose first character is at each place."""
        inside = np.flatnonzero(self.word_N[at_M])
        number_I = np.searchsorted(self.first, at_M[inside], side="right") - 1
        return self._words(at_M, inside, number_I)

    def words_before(self, at_M: Ends) -> Words:
        """The words whose last character is at each place (above 0)."""
        inside = np.flatnonzero(self.word_N[at_M])
        number_I = np.searchsorted(self.first, at_M[inside], side="right") - 1
        start_M = at_M.copy()
        start_M[inside] = np.maximum(self.first[number_I], at_M[inside] - _FARTHEST)
        return self._words(start_M, inside, number_I)

    def _words(self, start_M: Ends, inside: Ends, number_I: Ends) -> Words:
        """`inside` are the places in words, `number_I` the numbers of these words."""
        count = len(start_M)
        length_M, hash_M = np.zeros(count, np.uint8), np.zeros(count, np.uint32)
        inner_M, caps_M = np.zeros(count, np.bool_), np.zeros(count, np.bool_)
        if len(inside):
            start_I = start_M[inside]
            length_I = np.minimum(self.end[number_I] - start_I, LONGEST)
            # The characters of all words, one word after the other, and sums over each word.
            first_I = np.cumsum(length_I) - length_I
            offset = np.arange(first_I[-1] + length_I[-1]) - np.repeat(first_I, length_I)
            place = offset + np.repeat(start_I, length_I)
            hash_M[inside] = np.add.reduceat(_of(self.code_N[place]) * _POWERS[offset], first_I)
            counted_I = np.add.reduceat(_COUNTED[self.kind_N[place]], first_I)
            length_M[inside] = length_I
            inner_M[inside] = counted_I >= _INNER
            caps_M[inside] = (counted_I % _UPPER == 0) & (counted_I % _INNER > _UPPER)
        if self.code_N.dtype != np.uint8:
            single = np.flatnonzero(self.kind_N[start_M] == Kind.IDEOGRAPH)
            hash_M[single], length_M[single] = _of(self.code_N[start_M[single]]), 1
        return Words(start_M, length_M, mixed(hash_M), inner_M, caps_M)


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


def rows_of(hash_M: Hashes, check_V: NDArray[np.uint16]) -> NDArray[np.int64]:
    """Row of a table for each word: 1 + its bucket if the check agrees, else 0 for unknown."""
    bucket_M = (hash_M & np.uint32(len(check_V) - 1)).astype(np.int64)
    return np.where(check_V[bucket_M] == checks(hash_M), bucket_M + 1, 0)


def checks(hash_M: Hashes) -> NDArray[np.uint16]:
    """[M] the upper bits of the hashes; 0, which stands for an empty bucket, becomes 1."""
    return np.maximum((hash_M >> np.uint32(16)).astype(np.uint16), 1)
