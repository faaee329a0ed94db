"""The pre-tokenizer: word starts by the patterns of byte-level tokenizers, in array code instead of regular
expressions.

The tokenizer itself decides which characters are letters, numbers or white space.
"""

from enum import Enum
from typing import Any

import numpy as np
import tokenizers
from numpy.typing import NDArray

SEPARATOR_BYTE = 0xFF
"""Byte between texts, which no UTF-8 contains."""

_LETTER, _NUMBER, _OTHER, _SPACE, _SEPARATOR, _LINE_END_OF_OTHER = range(6)
_UNKNOWN = 255
_BLANK = 0x20


class WordPattern(Enum):
    """How a text is cut into words; the value is the regular expression of `tokenizer.json`."""

    GPT2 = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"
    LLAMA3 = (
        r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}"
        r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
    )
    QWEN = (
        r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}"
        r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
    )

    @classmethod
    def of(cls, pre_tokenizer: dict[str, Any] | None) -> "WordPattern | None":
        """The pattern of a `pre_tokenizer` of `tokenizer.json`; None for one that is not supported."""
        if pre_tokenizer is None:
            return None
        if pre_tokenizer["type"] == "ByteLevel":
            covered = pre_tokenizer.get("use_regex", True) and not pre_tokenizer["add_prefix_space"]
            return cls.GPT2 if covered else None
        steps = pre_tokenizer.get("pretokenizers", [])
        if [step["type"] for step in steps] != ["Split", "ByteLevel"]:
            return None
        split, byte_level = steps
        if split["behavior"] != "Isolated" or split["invert"]:
            return None
        if byte_level["add_prefix_space"] or byte_level.get("use_regex", True):
            return None
        return next((one for one in cls if split["pattern"] == {"Regex": one.value}), None)


class WordFinder:
    """Finds the words of texts by the pattern of a tokenizer."""

    def __init__(self, backend: tokenizers.Tokenizer, pattern: WordPattern) -> None:
        """`pattern` is that of `backend`."""
        self._pattern = pattern
        self._pieces = backend.pre_tokenizer.pre_tokenize_str
        self._classes = np.full(0x110000, _UNKNOWN, np.uint8)
        self._ask_classes(np.arange(128))
        self._byte_classes = np.full(256, _OTHER, np.uint8)
        self._byte_classes[:128] = self._classes[:128]
        self._byte_classes[SEPARATOR_BYTE] = _SEPARATOR
        # Ignoring case, a long s equals s in some engines of regular expressions.
        self._has_long_s = pattern is not WordPattern.GPT2 and len(self._pieces("'ſx")) == 2

    def starts(self, data: NDArray[np.uint8], is_ascii: bool) -> NDArray[np.int64]:
        """Offsets of words in the UTF-8 of texts; `SEPARATOR_BYTE`, a word of its own, follows each text."""
        classes = self._byte_classes[data]
        if not is_ascii:
            self._fill_classes(data, classes)
        if self._pattern is WordPattern.GPT2:
            is_start = self._gpt2_starts(data, classes)
        else:
            is_start = self._newer_starts(data, classes)
        return np.flatnonzero(is_start)

    def _gpt2_starts(self, data: NDArray[np.uint8], classes: NDArray[np.uint8]) -> NDArray[np.bool_]:
        is_start = _changes(classes)
        is_last = _is_last_space(classes)
        # A blank belongs to the word after it.
        is_start[1:] &= ~(is_last & (data[:-1] == _BLANK))
        is_start[_character_starts(data, np.flatnonzero(is_last))] = True
        _cut_contractions(data, is_start, lower=data, has_long_s=False)
        return is_start

    def _newer_starts(self, data: NDArray[np.uint8], classes: NDArray[np.uint8]) -> NDArray[np.bool_]:
        line_ends = np.flatnonzero((data == 0x0A) | (data == 0x0D))
        # Line ends right after others belong to them.
        run = np.cumsum(np.diff(line_ends, prepend=-2) != 1) - 1
        first = line_ends[np.flatnonzero(np.diff(run, prepend=-1))]
        belongs = (classes[first - 1] == _OTHER) & (first > 0)
        is_taken = belongs[run]
        taken, line_ends = line_ends[is_taken], line_ends[~is_taken]
        classes[taken] = _LINE_END_OF_OTHER
        is_start = _changes(classes)
        # White space up to its last line end is a word.
        runs = np.flatnonzero(is_start)
        of_run = np.searchsorted(runs, line_ends, side="right")
        is_start[line_ends[np.diff(of_run, append=-1) != 0] + 1] = True
        is_start[taken] = False
        # Of other white space the last character belongs to letters, and a blank to others too.
        last = np.flatnonzero(_is_last_space(classes) & (data[:-1] != 0x0A) & (data[:-1] != 0x0D))
        following = classes[last + 1]
        joins = (following == _LETTER) | ((following == _OTHER) & (data[last] == _BLANK))
        is_start[last[joins] + 1] = False
        is_start[_character_starts(data, last)] = True
        # A single other character belongs to the letters after it.
        letters = np.flatnonzero((classes[1:] == _LETTER) & (classes[:-1] == _OTHER)) + 1
        is_start[letters[is_start[_character_starts(data, letters - 1)]]] = False
        self._cut_numbers(data, classes, is_start)
        _cut_contractions(data, is_start, lower=data | np.uint8(_BLANK), has_long_s=self._has_long_s)
        return is_start

    def _cut_numbers(
        self, data: NDArray[np.uint8], classes: NDArray[np.uint8], is_start: NDArray[np.bool_]
    ) -> None:
        numbers = np.flatnonzero((classes == _NUMBER) & ((data & 0xC0) != 0x80))
        if self._pattern is WordPattern.LLAMA3:
            index = np.arange(len(numbers))
            index -= np.maximum.accumulate(np.where(is_start[numbers], index, 0))
            numbers = numbers[index % 3 == 0]
        is_start[numbers] = True

    def _fill_classes(self, data: NDArray[np.uint8], classes: NDArray[np.uint8]) -> None:
        """Set the class of each character of several bytes on all its bytes."""
        lead = np.flatnonzero((data >= 0xC0) & (data != SEPARATOR_BYTE))
        size = 2 + (data[lead] >= 0xE0) + (data[lead] >= 0xF0)
        code = data[lead] & (0x7F >> size).astype(np.int64)
        for offset in (1, 2, 3):
            longer = offset < size
            code[longer] = code[longer] << 6 | data[lead[longer] + offset] & 0x3F
        found = self._classes[code]
        if (found == _UNKNOWN).any():
            self._ask_classes(np.unique(code[found == _UNKNOWN]))
            found = self._classes[code]
        classes[lead] = found
        for offset in (1, 2, 3):
            longer = offset < size
            classes[lead[longer] + offset] = found[longer]

    def _ask_classes(self, codes: NDArray[np.integer]) -> None:
        # A character that makes one word with a letter is a letter, and so on. In the newer patterns a number may make
        # no word with another number, and a line end makes one with others.
        if self._pattern is WordPattern.GPT2:
            examples, rest = {"a": _LETTER, "1": _NUMBER, "!": _OTHER}, _SPACE
        else:
            examples, rest = {"a": _LETTER, "!": _OTHER, " ": _SPACE}, _NUMBER
        for code in codes.tolist():
            beside = (example for example in examples if len(self._pieces(example + chr(code))) == 1)
            self._classes[code] = _SPACE if chr(code) in "\r\n" else examples.get(next(beside, ""), rest)


def _changes(classes: NDArray[np.uint8]) -> NDArray[np.bool_]:
    is_start = np.empty(len(classes), bool)
    is_start[0] = True
    np.not_equal(classes[1:], classes[:-1], out=is_start[1:])
    is_start |= classes == _SEPARATOR
    return is_start


def _is_last_space(classes: NDArray[np.uint8]) -> NDArray[np.bool_]:
    """`[bytes - 1]` whether white space ends there and something follows in the same text."""
    is_space = classes == _SPACE
    return is_space[:-1] & ~(is_space | (classes == _SEPARATOR))[1:]


def _character_starts(data: NDArray[np.uint8], offsets: NDArray[np.int64]) -> NDArray[np.int64]:
    """Offsets of the first bytes of the characters at `offsets`."""
    offsets = offsets.copy()
    while len(inside := np.flatnonzero((data[offsets] & 0xC0) == 0x80)):
        offsets[inside] -= 1
    return offsets


def _cut_contractions(
    data: NDArray[np.uint8], is_start: NDArray[np.bool_], lower: NDArray[np.uint8], has_long_s: bool
) -> None:
    """Make 's 't 're 've 'm 'll 'd words of their own; `lower` is `data`, or `data` in lower case."""
    at = np.flatnonzero((data[:-2] == ord("'")) & is_start[:-2])
    first, second = lower[at + 1], lower[at + 2]
    size = np.where(np.isin(first, np.frombuffer(b"sdmt", np.uint8)), 2, 0)
    for pair in (b"ll", b"ve", b"re"):
        size[(first == pair[0]) & (second == pair[1])] = 3
    if has_long_s:
        size[(data[at + 1] == 0xC5) & (data[at + 2] == 0xBF)] = 3
    at, size = at[size > 0], size[size > 0]
    is_start[at + 1] = False
    is_start[at + size] = True
