"""Words before and after a place, by hash, and the lists that they may be in.

Shape suffixes: N characters, M places.
"""

import functools
from importlib.resources import files
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from segmenters.characters import Codes, Kind, Kinds
from segmenters.contract import Ends
from segmenters.rules.kinds import HYPHEN, STOP, in_plane

LONGEST = 14
"""Characters of a word that are looked at; a longer word is in no list."""
_FACTOR = 0x100000001B3
_POWERS = np.array([pow(_FACTOR, index, 2**64) for index in range(LONGEST + 1)], np.uint64)
Mask = NDArray[np.bool_]
CLASSES = ("title", "capital", "number", "word", "last", "date", "ordinal", "starter", "binder")


@functools.cache
def _lower() -> NDArray[np.uint32]:
    """[65537] lower case of each code point of the Basic Multilingual Plane; the last is for all others."""
    lower = [ord(char) if len(char) == 1 else ord("i") for char in map(str.lower, map(chr, range(0x10001)))]
    return np.array(lower, np.uint32)


class Words(NamedTuple):
    """The words at M places."""

    length_M: Ends
    """Characters; `LONGEST + 1` for a longer one."""
    classes_M: NDArray[np.uint16]
    """Bits of the classes of `words.txt` that the word is in, in lower case."""
    inner_M: Mask
    """It has inner full stops or hyphens."""
    letters_M: Mask
    """No part between full stops is longer than a letter: `U.S`, `z.B`, `p`."""
    number_M: Mask
    """Digits, and full stops between them."""
    caps_M: Mask
    """Two capitals in a row: `PT`."""

    def among(self, name: str) -> Mask:
        """Whether the word is in this class of `words.txt`."""
        return is_among(self.classes_M, name)


def is_among(classes_M: NDArray[np.uint16], name: str) -> Mask:
    """Whether the bits have that of this class."""
    return (classes_M & np.uint16(1 << CLASSES.index(name))).astype(np.bool_)


def words_before(code_N: Codes, kind_N: Kinds, at_M: Ends) -> Words:
    """The words (letters, digits, inner full stops and hyphens) that end before each place."""
    count = len(at_M)
    length_M, hash_M = np.zeros(count, np.int64), np.zeros(count, np.uint64)
    inner_M, caps_M = np.zeros(count, np.bool_), np.zeros(count, np.bool_)
    letters_M, number_M = np.ones(count, np.bool_), np.ones(count, np.bool_)
    open_S, at_S = np.arange(count), at_M  # the words that have not ended
    was_letter_S = was_upper_S = np.zeros(count, np.bool_)
    lower, digit, upper, mark = int(Kind.LOWER), int(Kind.DIGIT), int(Kind.UPPER), int(Kind.MARK)
    for back in range(1, LONGEST + 2):
        place_S = np.maximum(at_S - back, 0)
        code_S, kind_S = code_N[place_S], kind_N[place_S]
        letter_S = (kind_S >= lower) & (kind_S <= mark)
        inside_S = (
            letter_S if back == 1 else letter_S | was_letter_S & ((code_S == STOP) | (code_S == HYPHEN))
        )
        if not inside_S.all():
            open_S, at_S, code_S, kind_S = (
                open_S[inside_S],
                at_S[inside_S],
                code_S[inside_S],
                kind_S[inside_S],
            )
            letter_S, was_letter_S, was_upper_S = (
                letter_S[inside_S],
                was_letter_S[inside_S],
                was_upper_S[inside_S],
            )
        if not len(open_S):
            break
        upper_S, digit_S = kind_S == upper, kind_S == digit
        inner_M[open_S] |= ~letter_S
        number_M[open_S] &= digit_S | ~letter_S
        letters_M[open_S] &= ~(letter_S & was_letter_S | digit_S)
        caps_M[open_S] |= upper_S & was_upper_S
        hash_M[open_S] += _lower()[in_plane(code_S)] * _POWERS[back - 1]
        length_M[open_S] += 1
        was_letter_S, was_upper_S = letter_S, upper_S
    # A full stop or a hyphen before the first letter is no part of the word.
    dangling_M = (length_M > 1) & (length_M <= LONGEST) & (kind_N[np.maximum(at_M - length_M, 0)] > mark)
    length_M -= dangling_M
    extra_M = (
        code_N[np.maximum(at_M - length_M - 1, 0)].astype(np.uint64) * _POWERS[np.clip(length_M, 0, LONGEST)]
    )
    hash_M -= np.where(dangling_M, extra_M, np.uint64(0))
    some_M = length_M > 0
    return Words(length_M, _classes(hash_M), inner_M, letters_M & some_M, number_M & some_M, caps_M)


def words_after(code_N: Codes, kind_N: Kinds, at_M: Ends) -> tuple[Ends, NDArray[np.uint16]]:
    """Length and bits of the classes of the words (letters and digits) that begin at each place."""
    last = len(code_N) - 1
    length_M, hash_M = np.zeros(len(at_M), np.int64), np.zeros(len(at_M), np.uint64)
    open_S, at_S = np.arange(len(at_M)), at_M
    lower, mark = int(Kind.LOWER), int(Kind.MARK)
    for ahead in range(LONGEST + 1):
        place_S = np.minimum(at_S + ahead, last)
        kind_S = kind_N[place_S]
        inside_S = (kind_S >= lower) & (kind_S <= mark)
        open_S, at_S, place_S = open_S[inside_S], at_S[inside_S], place_S[inside_S]
        if not len(open_S):
            break
        hash_M[open_S] = hash_M[open_S] * np.uint64(_FACTOR) + _lower()[in_plane(code_N[place_S])]
        length_M[open_S] += 1
    return length_M, _classes(hash_M)


def word_hash(word: str) -> int:
    """The hash of a word in lower case, the same in both directions."""
    value = 0
    for char in word:
        value = (value * _FACTOR + ord(char)) % 2**64
    return value


@functools.cache
def word_lists() -> dict[str, frozenset[str]]:
    """The classes of `words.txt`."""
    lists: dict[str, set[str]] = {}
    for line in files("segmenters.rules").joinpath("words.txt").read_text("utf-8").splitlines():
        if line.startswith("["):
            words = lists.setdefault(line[1:].partition("]")[0], set())
        elif line and not line.startswith("#"):
            words.update(line.partition(":")[2].split())
    return {name: frozenset(found) for name, found in lists.items()}


@functools.cache
def _class_table() -> tuple[NDArray[np.uint64], NDArray[np.uint16]]:
    """The hashes of all words of `words.txt`, sorted, and the bits of their classes."""
    bits: dict[int, int] = {}
    for name, words in word_lists().items():
        for word in words:
            key = word_hash(word)
            bits[key] = bits.get(key, 0) | 1 << CLASSES.index(name)
    keys = sorted(bits)
    return np.array(keys, np.uint64), np.array([bits[key] for key in keys], np.uint16)


def _classes(hash_M: NDArray[np.uint64]) -> NDArray[np.uint16]:
    keys, bits = _class_table()
    place_M = np.minimum(np.searchsorted(keys, hash_M), len(keys) - 1)
    return np.where(keys[place_M] == hash_M, bits[place_M], np.uint16(0))
