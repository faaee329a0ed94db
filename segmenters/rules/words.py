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
_BLOCK = 2**12
"""Places at once, so that memory is bounded and stays in the processor's caches."""
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
    parts = [_before(code_N, kind_N, at_M[low : low + _BLOCK]) for low in range(0, max(len(at_M), 1), _BLOCK)]
    return parts[0] if len(parts) == 1 else Words(*map(np.concatenate, zip(*parts, strict=True)))


def _before(code_N: Codes, kind_N: Kinds, at_M: Ends) -> Words:
    """L is the number of characters before the place."""
    place_LM = np.maximum(at_M - np.arange(1, LONGEST + 2)[:, None], 0)
    code_LM, kind_LM = code_N[place_LM], kind_N[place_LM]
    letter_LM = (kind_LM >= Kind.LOWER) & (kind_LM <= Kind.MARK)
    inside_LM = letter_LM.copy()
    inside_LM[1:] |= letter_LM[:-1] & ((code_LM[1:] == STOP) | (code_LM[1:] == HYPHEN))
    np.logical_and.accumulate(inside_LM, axis=0, out=inside_LM)
    length_M = inside_LM.sum(0)
    # A full stop or a hyphen before the first letter is no part of the word.
    first_M = np.maximum(length_M - 1, 0)
    column_M = np.arange(len(at_M))
    dangling_M = (length_M > 1) & (length_M <= LONGEST) & ~letter_LM[first_M, column_M]
    inside_LM[first_M[dangling_M], column_M[dangling_M]] = False
    length_M -= dangling_M
    in_word_LM = letter_LM & inside_LM
    digit_LM, upper_LM = in_word_LM & (kind_LM == Kind.DIGIT), in_word_LM & (kind_LM == Kind.UPPER)
    some_M = length_M > 0
    letters_M = some_M & ~(in_word_LM[1:] & in_word_LM[:-1]).any(0) & ~digit_LM.any(0)
    number_M = some_M & ~(in_word_LM & ~digit_LM).any(0)
    caps_M = (upper_LM[1:] & upper_LM[:-1]).any(0)
    classes_M = _classes((_lower()[in_plane(code_LM)] * inside_LM * _POWERS[:, None]).sum(0, dtype=np.uint64))
    return Words(length_M, classes_M, (inside_LM & ~letter_LM).any(0), letters_M, number_M, caps_M)


def words_after(code_N: Codes, kind_N: Kinds, at_M: Ends) -> tuple[Ends, NDArray[np.uint16]]:
    """Length and bits of the classes of the words (letters and digits) that begin at each place."""
    parts = [_after(code_N, kind_N, at_M[low : low + _BLOCK]) for low in range(0, max(len(at_M), 1), _BLOCK)]
    return np.concatenate([length for length, _ in parts]), np.concatenate([classes for _, classes in parts])


def _after(code_N: Codes, kind_N: Kinds, at_M: Ends) -> tuple[Ends, NDArray[np.uint16]]:
    """L is the number of characters from the place on."""
    place_LM = np.minimum(at_M + np.arange(LONGEST + 1)[:, None], len(code_N) - 1)
    kind_LM = kind_N[place_LM]
    inside_LM = np.logical_and.accumulate((kind_LM >= Kind.LOWER) & (kind_LM <= Kind.MARK), axis=0)
    length_M = inside_LM.sum(0)
    power_LM = _POWERS[np.maximum(length_M - 1 - np.arange(LONGEST + 1)[:, None], 0)]
    code_LM = _lower()[in_plane(code_N[place_LM])]
    return length_M, _classes((code_LM * inside_LM * power_LM).sum(0, dtype=np.uint64))


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
