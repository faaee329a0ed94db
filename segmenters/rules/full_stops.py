"""Whether a sentence goes on after a full stop: abbreviations, initials, numbers, dates, items of lists.

Shape suffixes: N characters, M terminators, S the full stops that are looked at.
"""

import dataclasses

import numpy as np
from numpy.typing import NDArray

from segmenters.characters import Codes, Kind, Kinds
from segmenters.contract import Ends
from segmenters.rules.kinds import ARMENIAN, BULLETS, HANGUL, QUOTES, STOP, are
from segmenters.rules.marks import Marks
from segmenters.rules.sorted_offsets import contains
from segmenters.rules.words import Mask, is_among, words_after, words_before

_LOWER_CASE_START = 4
"""Letters of a word from which on its full stop ends a sentence even before lower case: "went. he"."""
_DAY_DIGITS, _ITEM_DIGITS, _ORDINAL_DIGITS = 2, 3, 3
_LONGEST_SECTION = 8
"""Characters of the number of a section: `2.1.3.12`."""
_LONGEST_IN_BRACKET = 5
"""Letters of an abbreviation after an opening bracket: `(born. 1950`, `(lat. Zeno`."""
_ROMAN_LETTERS = 4
_LETTERS_BEFORE_NAMES = "p" + "".join(map(chr, range(0x430, 0x460))) + "іїєґ"
"""Letters in lower case whose full stop is an abbreviation's: Czech and Polish `p.`, Cyrillic `г.`, `м.`, `т.`."""
_JOINTS = "'’°\"״׳"
"""Characters before the letters that are looked at, with which they are one word."""


@dataclasses.dataclass(frozen=True)
class _Next:
    """The words after the full stops."""

    code_N: Codes
    kind_N: Kinds
    at_S: Ends
    length_S: Ends
    classes_S: NDArray[np.uint16]

    def among(self, name: str) -> Mask:
        return is_among(self.classes_S, name)

    @property
    def upper_S(self) -> Mask:
        return self.kind_N[self.at_S] == Kind.UPPER

    @property
    def elided_S(self) -> Mask:
        """A letter, an apostrophe and lower case, as French `C'est`: it begins a sentence."""
        last = len(self.code_N) - 1
        elided_S = (self.length_S == 1) & are(self.code_N[self.at_S], "CJLNST")
        elided_S &= are(self.code_N[np.minimum(self.at_S + 1, last)], "'’")
        return elided_S & (self.kind_N[np.minimum(self.at_S + 2, last)] == Kind.LOWER)

    @property
    def stopped_S(self) -> Mask:
        """A full stop follows it."""
        return self.code_N[np.minimum(self.at_S + self.length_S, len(self.code_N) - 1)] == STOP

    @property
    def letter_and_stop_S(self) -> Mask:
        """A single letter with a full stop: the `B.` of `z. B.`."""
        return (self.length_S == 1) & self.stopped_S

    @property
    def month_and_stop_S(self) -> Mask:
        """A number of one or two digits with a full stop: the month in `24. 12.`."""
        is_digit_S = self.kind_N[self.at_S] == Kind.DIGIT
        return is_digit_S & (self.length_S <= _DAY_DIGITS) & self.stopped_S

    @property
    def roman_S(self) -> Mask:
        """A Roman number of up to 4 letters, and nothing else in the word."""
        roman_S = _is_roman(self.code_N, self.at_S, self.length_S)
        kind_S = self.kind_N[np.minimum(self.at_S + self.length_S, len(self.code_N) - 1)]
        return roman_S & ((kind_S <= Kind.BREAK) | (kind_S == Kind.PAUSE) | (kind_S >= Kind.CLOSER))


def stop_goes_on(
    code_N: Codes,
    kind_N: Kinds,
    start_W: Ends,
    marks: Marks,
    chosen: Ends,
    careless_M: Mask,
    ends_M: Mask,
    item_starts: Ends,
) -> Mask:
    """Whether the sentence goes on after each chosen mark: a full stop before white space in its line.

    `ends_M` are the ends without this rule; `careless_M` tells where lower case is no sign that the sentence goes on.
    """
    mark_S, closed_S = marks.mark_M[chosen], marks.closed_M[chosen]
    apart_S = kind_N[np.maximum(mark_S - 1, 0)] == Kind.SPACE  # as in tokenized text: "TP . HCM"
    word = words_before(code_N, kind_N, mark_S - apart_S)
    start_S = mark_S - apart_S - word.length_M
    before_S = np.maximum(start_S - 1, 0)
    opened_S = (kind_N[before_S] == Kind.OPENER) & ~are(code_N[before_S], QUOTES)
    joined_S = are(code_N[before_S], _JOINTS) & (kind_N[np.maximum(before_S - 1, 0)] <= Kind.IDEOGRAPH)
    joined_S &= (
        kind_N[np.maximum(before_S - 1, 0)] > Kind.BREAK
    )  # "l'art", Hebrew quotes inside a word, "19°C"
    whole_S = ~joined_S & (word.length_M > 0)
    next_S = marks.next_M[chosen]
    lower_S, digit_S = kind_N[next_S] == Kind.LOWER, kind_N[next_S] == Kind.DIGIT
    length_S, classes_S = words_after(code_N, kind_N, marks.first_M[chosen])
    after = _Next(code_N, kind_N, marks.first_M[chosen], length_S, classes_S)
    starts_S = after.upper_S & after.among("starter") & ~after.stopped_S | after.elided_S
    dated_S = (kind_N[after.at_S] == Kind.DIGIT) | after.among("date") | after.roman_S & ~starts_S
    dated_S |= after.letter_and_stop_S

    capital_S = kind_N[start_S] == Kind.UPPER
    caseless_S = (kind_N[start_S] == Kind.LETTER) & (code_N[start_S] < HANGUL[0]) | are(
        code_N[start_S], _LETTERS_BEFORE_NAMES
    )
    ordinal_word_S, counted_S = _earlier_words(code_N, kind_N, before_S, (word.length_M == 1) | word.number_M)
    later_S = code_N[np.maximum(start_S - 2, 0)] == STOP  # the second of "т. п."
    named_S = (word.length_M == 1) & caseless_S & ~counted_S & ~later_S  # "г. Москва", but "1812 г. Он"
    title_S = whole_S & ~word.caps_M & (word.among("title") | capital_S & word.among("capital"))
    other_S = whole_S & ~word.caps_M & word.among("word") & ~starts_S
    last_S = whole_S & word.among("last") & ~named_S & ~(capital_S & (word.length_M == 1))
    letters_S = whole_S & word.letters_M & (word.inner_M | capital_S | named_S | after.letter_and_stop_S)
    letters_S &= ~starts_S & ~last_S
    known_S = title_S | other_S | letters_S
    known_S |= whole_S & word.among("number") & (dated_S | lower_S)
    known_S |= last_S & ((lower_S & ~careless_M[chosen]) | dated_S)
    known_S |= digit_S & (are(code_N[mark_S - 1], "°№") | _is_street(code_N, mark_S))
    known_S |= lower_S & word.caps_M & _is_roman(code_N, start_S, word.length_M)
    known_S |= opened_S & (word.length_M <= _LONGEST_IN_BRACKET) & (kind_N[start_S] == Kind.LOWER)
    short_S = ~apart_S & ~careless_M[chosen] & ((word.length_M < _LOWER_CASE_START) | word.inner_M)
    known_S |= lower_S & (short_S | _is_armenian(code_N, mark_S))
    number_S = word.number_M & whole_S
    known_S |= number_S & lower_S
    day_S = word.length_M <= _DAY_DIGITS
    known_S |= number_S & day_S & (after.among("date") | after.month_and_stop_S | digit_S & apart_S)
    ordinal_S = number_S & (word.length_M <= _ORDINAL_DIGITS) & after.upper_S
    known_S |= ordinal_S & ordinal_word_S  # German "am", "der"
    section_S = number_S & (word.length_M <= np.where(word.inner_M, _LONGEST_SECTION, _ITEM_DIGITS))
    goes_on_S = np.where(closed_S, (title_S | other_S) & ~starts_S, known_S)
    item_S = (section_S | word.letters_M & ~word.inner_M) & whole_S
    return goes_on_S | item_S & _at_start(
        code_N, kind_N, start_W, marks, chosen, start_S, ends_M, goes_on_S, item_starts
    )


def _earlier_words(code_N: Codes, kind_N: Kinds, before_S: Ends, asked_S: Mask) -> tuple[Mask, Mask]:
    """Whether the word before the last one, where asked, is such as German `am`, and whether it is a number."""
    asked = np.flatnonzero(asked_S)
    earlier = words_before(code_N, kind_N, before_S[asked])
    ordinal_S, counted_S = np.zeros(len(before_S), np.bool_), np.zeros(len(before_S), np.bool_)
    ordinal_S[asked] = earlier.among("ordinal")
    roman_S = _is_roman(code_N, before_S[asked] - earlier.length_M, earlier.length_M)
    counted_S[asked] = earlier.number_M | earlier.caps_M & roman_S
    return ordinal_S, counted_S


def _is_roman(code_N: Codes, start_S: Ends, length_S: Ends) -> Mask:
    """Whether the word is a Roman number of up to 4 letters."""
    roman_S = (length_S > 0) & (length_S <= _ROMAN_LETTERS)
    for ahead in range(_ROMAN_LETTERS):
        code_S = code_N[np.clip(start_S + ahead, 0, len(code_N) - 1)]
        roman_S &= (ahead >= length_S) | are(code_S, "IVXLC")
    return roman_S


def _is_street(code_N: Codes, mark_S: Ends) -> Mask:
    """Whether the word ends in `str`, as German `Hauptstr. 12`."""
    street_S = np.ones(len(mark_S), np.bool_)
    for back, letter in enumerate("rts", 1):
        street_S &= code_N[np.maximum(mark_S - back, 0)] == ord(letter)
    return street_S


def _is_armenian(code_N: Codes, mark_S: Ends) -> Mask:
    """Whether the full stop is after an Armenian letter: it divides a sentence, as a colon or a semicolon does."""
    code_S = code_N[np.maximum(mark_S - 1, 0)]
    return (code_S >= ARMENIAN[0]) & (code_S <= ARMENIAN[1])


def _at_start(
    code_N: Codes,
    kind_N: Kinds,
    start_W: Ends,
    marks: Marks,
    chosen: Ends,
    start_S: Ends,
    ends_M: Mask,
    goes_on_S: Mask,
    item_starts: Ends,
) -> Mask:
    """Whether a line, a sentence or an item of a list begins there, so that a number is that of an item."""
    before_S = np.maximum(start_S - 1, 0)
    breaks = np.flatnonzero(kind_N == Kind.BREAK)
    break_S = breaks[np.maximum(np.searchsorted(breaks, start_S) - 1, 0)]
    bullet_S = are(code_N[before_S], BULLETS) | are(code_N[np.maximum(start_S - 2, 0)], BULLETS)
    line_S = start_W[np.searchsorted(start_W, break_S)] == start_S
    listed_S = (kind_N[before_S] == Kind.SPACE) & are(code_N[np.maximum(start_S - 2, 0)], ":;")
    ended_M = ends_M.copy()
    ended_M[chosen] = ~goes_on_S
    earlier_S = np.maximum(chosen - 1, 0)
    ended_S = ended_M[earlier_S] & (marks.next_M[earlier_S] == start_S) & (chosen > 0)
    return line_S | listed_S | ended_S | bullet_S | contains(item_starts, start_S)
