"""The code points of a text and their classes, as `punctuation_v2` sees them.

The classes are those of `segmenters.characters`, which stay as they are for `punctuation_v1`, with the terminators of
all scripts and with quotes that open in one language and close in another.
"""

import functools

import numpy as np
from numpy.typing import NDArray

from segmenters.characters import Codes, Kind, Kinds, code_points, kind_table, kinds

SENTENCE_TERMINAL = """
    0021 002E 003F 0589 061D-061F 06D4 0700-0702 07F9 0837 0839 083D-083E 0964-0965 104A-104B 1362 1367-1368 166E
    1735-1736 17D4-17D5 1803 1809 1944-1945 1AA8-1AAB 1B4E-1B4F 1B5A-1B5B 1B5E-1B5F 1B7D-1B7F 1C3B-1C3C 1C7E-1C7F 2024
    203C-203D 2047-2049 2CF9-2CFB 2E2E 2E3C 2E53-2E54 2E60-2E61 3002 A4FF A60E-A60F A6F3 A6F7 A876-A877 A8CE-A8CF A92F
    A9C8-A9C9 AA5D-AA5F AAF0-AAF1 ABEB FE12 FE15-FE16 FE52 FE56-FE57 FF01 FF0E FF1F FF61 10A56-10A57 10F55-10F59
    10F86-10F89
    11047-11048 110BE-110C1 11141-11143 111C5-111C6 111CD 111DE-111DF 11238-11239 1123B-1123C 112A9 113D4-113D5
    1144B-1144C 115C2-115C3 115C9-115D7 11641-11642 1173C-1173E 11944 11946 11A42-11A43 11A9B-11A9C 11C41-11C42
    11EF7-11EF8 11F43-11F44 16A6E-16A6F 16AF5 16B37-16B38 16B44 16D6E-16D6F 16E98 1BC9F 1DA88
    """
"""Code points with the property Sentence_Terminal of the Unicode Character Database (Unicode licence v3), in
hexadecimal."""

MORE_TERMINATORS = "…⋯⸮๚๛༎།༏༐༑༔᙮၏።፧፨"
"""Ellipses; Thai, Tibetan, Canadian and Myanmar signs that end sentences without having the property."""
COMMAS = "၊"
"""Has the property, but is used as a comma."""
FREE_TERMINATORS = "།༎。！？｡．﹒﹗﹖︒︕︖။၏។៕᪨᪩᪪᪫᭚᭛᭞᭟꧈꧉꩝꩞꩟"
"""Of scripts without spaces between words: no white space is needed after them."""
ELLIPSES = "…⋯"
QUOTES = "“”‘’«»‹›„‚‟‛″′´`"
"""Open in one language and close in another, so that only their place tells."""

ARMENIAN = 0x530, 0x58F
HANGUL = 0xAC00, 0xD7A3
BULLETS = "•◦▪‣⁃●■□○"
SHAD = 0xF0D
STOP, HYPHEN = map(ord, ".-")


def _terminal() -> list[int]:
    codes: list[int] = []
    for part in SENTENCE_TERMINAL.split():
        first, _, last = part.partition("-")
        codes += range(int(first, 16), int(last or first, 16) + 1)
    return codes


@functools.cache
def _table() -> NDArray[np.uint8]:
    table = kind_table().copy()
    table[[*_terminal(), *map(ord, MORE_TERMINATORS)]] = Kind.TERMINATOR
    table[list(map(ord, COMMAS))] = Kind.PAUSE
    table[list(map(ord, FREE_TERMINATORS))] = Kind.FREE_TERMINATOR
    return table


def classified(text: str) -> tuple[Codes, Kinds]:
    """The code point and the class of every character."""
    code_N = code_points(text)
    if text.isascii():
        return code_N, kinds(text)
    return code_N, _table()[code_N]


@functools.cache
def _is_one_of(characters: str) -> NDArray[np.bool_]:
    """[65537] whether a code point below 65536 is one of these; the last is for all others."""
    table = np.zeros(0x10001, np.bool_)
    table[list(map(ord, characters))] = True
    return table


def in_plane(code_M: Codes) -> Codes:
    """The code points, with 65536 for all outside the Basic Multilingual Plane."""
    return code_M if code_M.dtype == np.uint8 else np.minimum(code_M, 0x10000)


def are(code_M: Codes, characters: str) -> NDArray[np.bool_]:
    """Whether each is one of these characters, all of the Basic Multilingual Plane."""
    return _is_one_of(characters)[in_plane(code_M)]
