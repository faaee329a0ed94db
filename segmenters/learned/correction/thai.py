"""Thai, where a space ends a sentence, or a clause, or stands beside a number or a name, and no mark tells which.

Rules, without training: there is no Thai text with known boundaries here. Shape suffixes: N characters, S spaces.
"""

import numpy as np

from segmenters.characters import Codes, Kind, Kinds
from segmenters.contract import Ends

_THAI = 0xE01, 0xE4E
_REPEAT = 0xE46
"""The sign of repetition, which has a space after it."""
_SHORTEST_SENTENCE = 30
_SHORTEST_CLAUSE = 12
"""Characters."""
_GOES_ON = """
    และ หรือ แต่ ที่ ซึ่ง อัน โดย เพื่อ เพราะ ว่า จาก จน กับ ของ คือ เช่น ได้แก่ รวม ตลอดจน ทั้ง แล้ว ก็ ถึง ใน ตาม ด้วย ให้ แม้ หาก
    ถ้า เมื่อ ต่อ จึง ทำให้ อย่าง โดยเฉพาะ ตั้งแต่ ระหว่าง
    """
"""Words at the start of a clause that continues a sentence."""
_OPEN_ENDED = """
    ว่า คือ เช่น ได้แก่ ที่ ของ และ หรือ กับ ใน โดย เป็น จาก นาย นาง นางสาว ดร. พ.ศ. ค.ศ. กว่า ประมาณ
    """
"""Words at the end of a clause that goes on."""


def thai_starts(batch: str, code_N: Codes, kind_N: Kinds, starts: Ends) -> Ends:
    """Where further sentences begin after spaces between Thai clauses; `starts` are those that are known."""
    if code_N.dtype == np.uint8:
        return np.empty(0, np.int64)
    thai_N = (code_N >= _THAI[0]) & (code_N <= _THAI[1])
    space_S = np.flatnonzero((kind_N[1:-1] == Kind.SPACE) & thai_N[:-2] & thai_N[2:]) + 1
    space_S = space_S[code_N[space_S - 1] != _REPEAT]
    if not len(space_S):
        return space_S
    edges = np.flatnonzero(kind_N <= Kind.BREAK)
    ends_S = edges[np.minimum(np.searchsorted(edges, space_S, side="right"), len(edges) - 1)]
    borders = np.union1d(starts, np.flatnonzero(kind_N == Kind.BREAK))
    number_S = np.searchsorted(borders, space_S).tolist()
    found: list[int] = []
    goes_on, open_ended = tuple(_GOES_ON.split()), tuple(_OPEN_ENDED.split())
    begun, section = 0, -1
    for space, end, number in zip(space_S.tolist(), ends_S.tolist(), number_S, strict=True):
        if number != section:
            section, begun = number, int(borders[number - 1]) if number else 0
        if space - begun < _SHORTEST_SENTENCE or end - space <= _SHORTEST_CLAUSE:
            continue
        if batch.startswith(goes_on, space + 1) or batch[max(space - 12, 0) : space].endswith(open_ended):
            continue
        found.append(space + 1)
        begun = space + 1
    return np.array(found, np.int64)
