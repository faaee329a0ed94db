"""Thai, where a space ends a sentence, or a clause, or stands beside a number or a name, and no mark tells which.

Rules, without training: each space gets log-odds from the words beside it, and of all ways to cut a stretch the best
one is taken, by dynamic programming over these and the lengths of sentences. Shape suffixes: N characters, S spaces.
"""

import functools
import math

import numpy as np

from segmenters.characters import Codes, Kind, Kinds
from segmenters.contract import Ends

_THAI = 0xE01, 0xE4E
_REPEAT = "\u0e46"
"""The sign of repetition, which has a space after it."""
_NEVER_FIRST = """
    และ หรือ แต่ยัง ซึ่ง อัน เพื่อ เพราะ ว่า จน กับ ของ เช่น ได้แก่ รวมทั้ง รวมถึง ตลอดจน แล้ว ก็ จึง
    ทำให้ โดย ต่อ ด้วย ประกอบด้วย ยกเว้น ส่วนใหญ่ ไม่ว่า เนื่องจาก ไป ที่มี ที่เป็น ที่ถูก ที่ได้ เป็น
    คือ ให้ กว่า ขณะที่ ต่างๆ คน ปี บาท ล้าน เปอร์เซ็นต์ กิโลเมตร เมตร ประเทศ ครั้ง วัน เดือน ชั่วโมง
    นาที
    """
"""Words that go on with a sentence: conjunctions, relative pronouns, units after a number."""
_SELDOM_FIRST = """
    แต่ ที่ จาก ถึง ใน ตาม แม้ หาก ถ้า เมื่อ อย่าง โดยเฉพาะ ตั้งแต่ ระหว่าง ทั้ง รวม ยัง ส่วน
    """
_OFTEN_FIRST = """
    อย่างไรก็ตาม อย่างไรก็ดี นอกจาก ดังนั้น เขา เธอ พวกเขา พวกเรา มัน ผม ฉัน เรา การ ความ นี่ นั่น ใน ปี
    ตามที่ ถึงแม้ แม้ว่า ทั้งสอง หลังจาก ก่อน ต่อมา ปัจจุบัน ขณะนี้ ทว่า ไม่ มี นาย นาง ผู้ นัก
    """
_NEVER_LAST = """
    ว่า คือ เช่น ได้แก่ ที่ ของ และ หรือ กับ ใน โดย เป็น จาก นาย นาง นางสาว กว่า ประมาณ ราว เกือบ
    อย่างไรก็ตาม อย่างไรก็ดี นอกจากนี้ นอกจากนั้น ดังนั้น ทั้งนี้ ร้อยละ วันที่ อายุ เมื่อ แต่ ซึ่ง
    เพื่อ ถึง เวลา
    """
"""Words after which a sentence goes on."""
_STOP = ord(".")
_LONGEST_WORD = 12
_SPACE, _FIRST, _SELDOM, _OFTEN, _LAST, _NOT_THAI, _REPEATED = 1.6, -4.0, -1.0, 1.0, -4.0, -2.5, -9.0
"""Log-odds of a space, and what each kind of word or sign beside it adds."""
_TYPICAL, _SPREAD = 80, 0.55
"""Characters of a sentence: median and standard deviation of the logarithm; longer ones cost half."""
_LONGEST, _MOST_SPACES = 400, 24
"""A sentence is looked for in so many characters and spaces."""


def without_abbreviations(code_N: Codes, kind_N: Kinds, starts: Ends) -> Ends:
    """The starts without those after the full stop of a Thai abbreviation, which ends no sentence."""
    if code_N.dtype == np.uint8:
        return starts
    stop_S = starts - 1 - (kind_N[starts - 1] == Kind.SPACE)
    before_S = code_N[np.maximum(stop_S - 1, 0)]
    return starts[(code_N[stop_S] != _STOP) | (before_S < _THAI[0]) | (before_S > _THAI[1])]


def thai_starts(batch: str, code_N: Codes, kind_N: Kinds, starts: Ends) -> Ends:
    """Where further sentences begin after spaces beside Thai letters; `starts` are those that are known."""
    none = np.empty(0, np.int64)
    if code_N.dtype == np.uint8:
        return none
    thai_N = (code_N >= _THAI[0]) & (code_N <= _THAI[1])
    if not thai_N.any():
        return none
    space_N = kind_N == Kind.SPACE
    edges = np.flatnonzero(space_N[1:] != space_N[:-1]) + 1  # a batch begins and ends with a break
    begin_S, end_S = edges[0::2], edges[1::2]
    open_S = (thai_N[begin_S - 1] | thai_N[end_S]) & (kind_N[begin_S - 1] > Kind.BREAK)
    open_S &= kind_N[end_S] > Kind.BREAK
    begin_S, end_S = begin_S[open_S], end_S[open_S]
    borders = np.union1d(starts, np.flatnonzero(kind_N == Kind.BREAK) + 1)
    inside_S = ~np.isin(end_S, borders)
    begin_S, end_S = begin_S[inside_S], end_S[inside_S]
    gain_S = _SPACE + _NOT_THAI * (~thai_N[begin_S - 1] + 0.0 + ~thai_N[end_S])
    gains = [
        gain + _beside(batch, begin, end)
        for gain, begin, end in zip(gain_S.tolist(), begin_S.tolist(), end_S.tolist(), strict=True)
    ]
    found = [none]
    section_S = np.searchsorted(borders, end_S)
    cuts = np.flatnonzero(np.diff(section_S)) + 1
    for low, high in zip([0, *cuts.tolist()], [*cuts.tolist(), len(end_S)], strict=True):
        if low < high:
            number = int(section_S[low])
            start, end = int(borders[number - 1]) if number else 0, int(borders[number])
            found.append(_best(start, end_S[low:high].tolist(), end, gains[low:high]))
    return np.concatenate(found)


@functools.cache
def _words(listed: str) -> tuple[str, ...]:
    return tuple(listed.split())


def _beside(batch: str, begin: int, end: int) -> float:
    """Log-odds from the words on both sides of a space."""
    gain = _REPEATED if batch[begin - 1] == _REPEAT else 0.0
    if batch.startswith(_words(_NEVER_FIRST), end):
        gain += _FIRST
    elif batch.startswith(_words(_OFTEN_FIRST), end):
        gain += _OFTEN
    if batch.startswith(_words(_SELDOM_FIRST), end):
        gain += _SELDOM
    if batch[begin - 1] == chr(_STOP):
        return gain + _LAST
    return gain + _LAST * batch.endswith(_words(_NEVER_LAST), max(begin - _LONGEST_WORD, 0), begin)


def _best(start: int, spaces: list[int], end: int, gains: list[float]) -> Ends:
    """The spaces at which the stretch from `start` to `end` is cut: those with the largest sum of log-odds."""
    places, gains = [start, *spaces, end], [0.0, *gains, 0.0]
    best, back = [0.0], [0]
    for number in range(1, len(places)):
        most, chosen = -math.inf, number - 1
        for before in range(number - 1, max(number - 1 - _MOST_SPACES, -1), -1):
            length = places[number] - places[before]
            if length > _LONGEST and before < number - 1:
                break
            value = best[before] + _fit(length)
            if value > most:
                most, chosen = value, before
        best.append(most + gains[number])
        back.append(chosen)
    found, number = [], back[-1]
    while number:
        found.append(places[number])
        number = back[number]
    return np.array(found[::-1], np.int64)


def _fit(length: int) -> float:
    """Log-density of the length of a sentence, without its constant."""
    deviation = (math.log(length) - math.log(_TYPICAL)) / _SPREAD
    return deviation * deviation * (-0.5 if length < _TYPICAL else -0.25)
