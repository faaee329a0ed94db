"""The code points of a text and the class of each, as arrays.

The classes are those that splitting needs. They come from the Unicode categories of the running Python.
"""

import functools
import unicodedata

import numpy as np
from numpy.typing import NDArray


class Kind:
    """Class of a character. White space and letters are ranges of values, so that each is one comparison.

    Plain numbers: array code compares with them several times faster than with members of an enumeration.
    """

    SPACE = 0
    BREAK = 1
    """Ends a line: CR, LF, VT, FF, the separators FS, GS and RS, NEL, LS, PS."""
    LOWER = 2
    UPPER = 3
    LETTER = 4
    """Letter without case, and modifier letters."""
    DIGIT = 5
    MARK = 6
    """Combining mark, joiner or other invisible format character; part of the previous character."""
    IDEOGRAPH = 7
    """Letter of a script that puts no spaces between words."""
    SYMBOL = 8
    """Everything else, unassigned and lone surrogates too."""
    DASH = 9
    PAUSE = 10
    """Comma, colon, semicolon and those of other scripts."""
    OPENER = 11
    QUOTE = 12
    """Straight quote, which opens or closes."""
    CLOSER = 13
    TERMINATOR = 14
    """Ends a sentence if white space follows."""
    FREE_TERMINATOR = 15
    """Ends a sentence without white space after it."""


Kinds = NDArray[np.uint8]
"""The `Kind` of each character of a text."""
Codes = NDArray[np.uint8] | NDArray[np.uint32]
"""One code point per character of a text; bytes where all are ASCII."""

TERMINATORS = ".!?…‽؟۔।॥։።፧၊။៕༎܀܁܂᙮᠃᠉⸮‼⁇⁈⁉"
FREE_TERMINATORS = "。！？｡．﹒﹗﹖︒"
_BREAKS = "\n\r\x0b\x0c\x1c\x1d\x1e\x85\u2028\u2029"
_PAUSES = ",;:，、；：､،؛၊፣፤፥·"
_UNSPACED = (
    (0x0E00, 0x0EFF),  # Thai, Lao
    (0x1000, 0x109F),  # Myanmar
    (0x1780, 0x17FF),  # Khmer
    (0x2E80, 0x9FFF),  # CJK radicals, kana, ideographs
    (0xF900, 0xFAFF),
    (0xFF66, 0xFF9F),  # half-width kana
    (0x1B000, 0x1B16F),
    (0x20000, 0x3FFFF),
)
_BY_CATEGORY = {
    "Ll": Kind.LOWER,
    "Lu": Kind.UPPER,
    "Lt": Kind.UPPER,
    "Lo": Kind.LETTER,
    "Lm": Kind.LETTER,
    "Nd": Kind.DIGIT,
    "Nl": Kind.DIGIT,
    "No": Kind.DIGIT,
    "Mn": Kind.MARK,
    "Mc": Kind.MARK,
    "Me": Kind.MARK,
    "Cf": Kind.MARK,
    "Zs": Kind.SPACE,
    "Pd": Kind.DASH,
    "Ps": Kind.OPENER,
    "Pi": Kind.OPENER,
    "Pe": Kind.CLOSER,
    "Pf": Kind.CLOSER,
}


@functools.cache
def _ascii_table() -> bytes:
    return _kinds_below(128).tobytes() + bytes([Kind.SYMBOL]) * 128


@functools.cache
def kind_table() -> NDArray[np.uint8]:
    """[0x110000] the `Kind` of each code point."""
    table = np.full(0x110000, Kind.SYMBOL, np.uint8)
    table[0x20000:0x40000] = Kind.IDEOGRAPH
    table[:0x20000] = _kinds_below(0x20000)
    table[0xE0000:0xE01F0] = Kind.MARK  # tags and variation selectors
    return table


def _kinds_below(end: int) -> NDArray[np.uint8]:
    """[end] kind of each code point: by its category, unless a rule below sets another."""
    chars = list(map(chr, range(end)))
    symbol = int(Kind.SYMBOL)
    by_category = {name: int(kind) for name, kind in _BY_CATEGORY.items()}
    table = np.array([by_category.get(name, symbol) for name in map(unicodedata.category, chars)], np.uint8)
    for first, last in _UNSPACED:
        part = table[first : last + 1]
        part[part == Kind.LETTER] = Kind.IDEOGRAPH
    for members, kind in (
        ("\"'＂＇", Kind.QUOTE),
        (_PAUSES, Kind.PAUSE),
        (FREE_TERMINATORS, Kind.FREE_TERMINATOR),
        (TERMINATORS, Kind.TERMINATOR),
        (filter(str.isspace, chars), Kind.SPACE),
        (_BREAKS, Kind.BREAK),
    ):
        codes = np.array(list(map(ord, members)))
        table[codes[codes < end]] = kind
    return table


def code_points(text: str) -> Codes:
    """One code point per character of `text`, also for lone surrogates."""
    if text.isascii():
        return np.frombuffer(text.encode("ascii"), np.uint8)
    return np.frombuffer(text.encode("utf-32-le", "surrogatepass"), np.uint32)


def kinds(text: str) -> Kinds:
    """The `Kind` of every character of `text`."""
    if text.isascii():
        return np.frombuffer(text.encode("ascii").translate(_ascii_table()), np.uint8)
    return kind_table()[code_points(text)]


def word_starts(kind_N: Kinds) -> NDArray[np.int64]:
    """Offsets where white space ends and something else begins."""
    solid_N = kind_N > Kind.BREAK
    return np.flatnonzero(solid_N[1:] & ~solid_N[:-1]) + 1
