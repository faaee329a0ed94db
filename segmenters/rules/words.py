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


@functools.cache
def _lower() -> NDArray[np.uint32]:
    """[65537] lower case of each code point of the Basic Multilingual Plane; the last is for all others."""
    lower = [ord(char) if len(char) == 1 else ord("i") for char in map(str.lower, map(chr, range(0x10001)))]
    return np.array(lower, np.uint32)


class Words(NamedTuple):
    """The words at M places."""

    length_M: Ends
    """Characters; `LONGEST + 1` for a longer one."""
    hash_M: NDArray[np.uint64]
    """Of the word in lower case."""
    inner_M: Mask
    """It has inner full stops."""
    letters_M: Mask
    """No part between full stops is longer than a letter: `U.S`, `z.B`, `p`."""
    number_M: Mask
    """Digits, and full stops between them."""

    caps_M: Mask
    """Two capitals in a row: `PT`."""

    def among(self, name: str) -> Mask:
        """Whether the word is in this class of `words.txt`."""
        return np.isin(self.hash_M, hashes(name))


def words_before(code_N: Codes, kind_N: Kinds, at_M: Ends) -> Words:
    """The words (letters, digits, inner full stops and hyphens) that end before each place."""
    count = len(at_M)
    length_M, inside_M = np.zeros(count, np.int64), np.ones(count, np.bool_)
    hash_M = np.zeros(count, np.uint64)
    inner_M = np.zeros(count, np.bool_)
    letters_M, number_M = np.ones(count, np.bool_), np.ones(count, np.bool_)
    was_letter_M, was_upper_M, caps_M = (np.zeros(count, np.bool_) for _ in range(3))
    for back in range(1, LONGEST + 2):
        place_M = np.maximum(at_M - back, 0)
        code_M, kind_M = code_N[place_M], kind_N[place_M]
        letter_M = (kind_M >= Kind.LOWER) & (kind_M <= Kind.MARK)
        joint_M = (code_M == STOP) | (code_M == HYPHEN) if back > 1 else ~inside_M
        inside_M &= letter_M | joint_M & (was_letter_M if back > 1 else joint_M)
        if not inside_M.any():
            break
        inner_M |= inside_M & joint_M
        number_M &= ~inside_M | joint_M | (kind_M == Kind.DIGIT)
        letters_M &= ~(inside_M & (letter_M & was_letter_M | (kind_M == Kind.DIGIT)))
        hash_M += np.where(inside_M, _lower()[in_plane(code_M)] * _POWERS[back - 1], np.uint64(0))
        upper_M = inside_M & (kind_M == Kind.UPPER)
        caps_M |= upper_M & was_upper_M
        was_upper_M = upper_M
        length_M += inside_M
        was_letter_M = letter_M
    # A full stop or a hyphen before the first letter is no part of the word.
    first_M = np.maximum(at_M - length_M, 0)
    dangling_M = (length_M > 1) & (kind_N[first_M] > Kind.MARK)
    hash_M = np.where(
        dangling_M & (length_M <= LONGEST),
        hash_M - code_N[first_M].astype(np.uint64) * _POWERS[np.clip(length_M - 1, 0, LONGEST)],
        hash_M,
    )
    length_M = length_M - dangling_M
    some_M = length_M > 0
    return Words(length_M, hash_M, inner_M, letters_M & some_M, number_M & some_M, caps_M)


def words_after(code_N: Codes, kind_N: Kinds, at_M: Ends) -> tuple[Ends, NDArray[np.uint64]]:
    """Length and hash of the words (letters and digits) that begin at each place."""
    count, last = len(at_M), len(code_N) - 1
    length_M, inside_M = np.zeros(count, np.int64), np.ones(count, np.bool_)
    hash_M = np.zeros(count, np.uint64)
    for ahead in range(LONGEST + 1):
        place_M = np.minimum(at_M + ahead, last)
        kind_M = kind_N[place_M]
        inside_M &= (kind_M >= Kind.LOWER) & (kind_M <= Kind.MARK)
        if not inside_M.any():
            break
        code_M = _lower()[in_plane(code_N[place_M])].astype(np.uint64)
        hash_M = np.where(inside_M, hash_M * np.uint64(_FACTOR) + code_M, hash_M)
        length_M += inside_M
    return length_M, hash_M


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
def hashes(name: str) -> NDArray[np.uint64]:
    """The hash of each word of a class of `words.txt`, sorted."""
    return np.unique(np.array([word_hash(word) for word in word_lists()[name]], np.uint64))
