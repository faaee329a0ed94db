"""Segmentation by rules: sentences end at terminators and at line breaks, in any script.

Array code classifies all characters, then applies the rules to the terminators and line breaks alone.

Shape suffixes: N characters, M terminators, W words (separated by white space), B line breaks.
"""

import dataclasses
import functools
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from segmenters.batching import split_batched
from segmenters.characters import Codes, Kind, Kinds, code_points, kinds, word_starts
from segmenters.contract import Ends, Segmenter

ABBREVIATIONS = """
    mr mrs ms dr prof rev fr hon sr jr sra srta mme mlle gen col maj capt cmdr lt sgt cpl adm gov sen rep pres
    messrs mt st ft vs cf al eds trans vol vols nos nr op pp pg ch sec fig figs eq eqs ref refs approx ca
    jan feb mar apr jun jul aug sept sep oct nov dec thur thurs e.g i.e eg ie viz dept univ assn bros ave blvd
    rd vgl bzw z.b u.a d.h usw ggf evtl geb hrsg abs art aufl bspw dipl ing str tel sog inkl exkl
    p.ej ej pág págs núm ud uds vd vds dña avda p.a u.k
    """
"""After these words a full stop ends no sentence: titles, months, abbreviations of English, German and Spanish."""

BEFORE_ORDINALS = "am der dem den des die das vom zum im ab bis seit beim und"
"""German words after which a number with a full stop is an ordinal: `am 3. Mai`, `der 2. Weltkrieg`."""

_LONGEST_ABBREVIATION = max(map(len, ABBREVIATIONS.split()))
_LOWER_CASE_START = 4
"""Letters of a word from which on its full stop ends a sentence even before lower case: "went. he"."""
_MOST_CLOSERS = 4
"""Closing quotes and brackets in a row that belong to the sentence before them."""
_STOP, _ELLIPSIS, _CR, _LF = map(ord, ".…\r\n")


@dataclasses.dataclass(frozen=True)
class Punctuation(Segmenter):
    """Splits after terminators (with the closing quotes and brackets after them) and at line breaks.

    A terminator needs white space after it, except in scripts without spaces. A full stop ends no
    sentence after an abbreviation, an initial or the number of a list item; an ellipsis, and a terminator
    inside a closed quotation, end none before a lower-case word.
    """

    name: ClassVar[str] = "punctuation_v1"

    line_breaks: bool = True
    """A line break ends a sentence, unless the paragraph is hard-wrapped: the next line begins in lower case after a
    line without a terminator. Off: only an empty line ends a sentence."""

    def split(self, texts: list[str]) -> list[Ends]:
        """See `Segmenter.split`."""
        return split_batched(texts, self.sentence_starts)

    def sentence_starts(self, batch: str, text_starts: Ends) -> Ends:
        """Where sentences begin in a batch of texts (see `split_batched`)."""
        kind_N = kinds(batch)
        code_N = code_points(batch)
        start_W = np.append(word_starts(kind_N), len(batch))
        after_M = _after_terminators(code_N, kind_N)
        inside_M = kind_N[after_M] > Kind.BREAK
        start_M = np.where(inside_M, after_M, start_W[np.searchsorted(start_W, after_M)])
        return np.union1d(start_M, self._line_starts(code_N, kind_N, start_W))

    def _line_starts(self, code_N: Codes, kind_N: Kinds, start_W: Ends) -> Ends:
        """Starts of the lines that begin a sentence."""
        break_B = np.flatnonzero(kind_N == Kind.BREAK)
        word_B = np.searchsorted(start_W, break_B)
        break_B, word_B = break_B[word_B < len(start_W)], word_B[word_B < len(start_W)]
        breaks_W = np.bincount(word_B, minlength=len(start_W))  # breaks in the white space before each word
        pair_B = (code_N[break_B] == _LF) & (code_N[break_B - 1] == _CR)
        breaks_W -= np.bincount(word_B[pair_B], minlength=len(start_W))
        if not self.line_breaks:
            return start_W[breaks_W > 1]
        goes_on_W = kind_N[np.minimum(start_W, len(kind_N) - 1)] == Kind.LOWER
        return start_W[(breaks_W > 1) | ((breaks_W == 1) & ~goes_on_W)]


def _after_terminators(code_N: Codes, kind_N: Kinds) -> Ends:
    """Offsets after the terminators that end a sentence, and their closing quotes and brackets."""
    mark_M = np.flatnonzero(kind_N >= Kind.TERMINATOR)
    mark_M = mark_M[kind_N[mark_M + 1] < Kind.TERMINATOR]  # the last of a run
    after_M = mark_M + 1
    for _ in range(_MOST_CLOSERS):
        kind_M = kind_N[after_M]
        after_M = after_M + ((kind_M == Kind.CLOSER) | (kind_M == Kind.QUOTE))
    free_M = kind_N[mark_M] == Kind.FREE_TERMINATOR
    spaced_M = ~free_M & (kind_N[after_M] <= Kind.BREAK)
    ends_M = free_M
    ends_M[spaced_M] = ~_goes_on(code_N, kind_N, mark_M[spaced_M], after_M[spaced_M])
    return after_M[ends_M]


def _goes_on(code_N: Codes, kind_N: Kinds, mark_M: Ends, after_M: Ends) -> NDArray[np.bool_]:
    """Whether the sentence goes on after the terminator at `mark_M`, where white space follows at `after_M`."""
    length_M, word_M = _words_before(code_N, kind_N, mark_M)
    start_M = mark_M - length_M
    number_M = (kind_N[start_M] == Kind.DIGIT) & (length_M <= 2)
    ordinal_M = number_M.copy()
    _, before_M = _words_before(code_N, kind_N, np.maximum(start_M[number_M] - 1, 0))
    ordinal_M[number_M] = np.isin(before_M, _hashes(BEFORE_ORDINALS))
    run_M = kind_N[mark_M - 1] >= Kind.TERMINATOR
    stop_M = (code_N[mark_M] == _STOP) & ~run_M
    ellipsis_M = (code_N[mark_M] == _STOP) & run_M | (code_N[mark_M] == _ELLIPSIS)
    closed_M = after_M > mark_M + 1
    same_line_M = kind_N[after_M] == Kind.SPACE
    lower_M = same_line_M & (kind_N[np.minimum(after_M + 1, len(kind_N) - 1)] == Kind.LOWER)
    initial_M = (length_M == 1) & (kind_N[start_M] == Kind.UPPER)
    item_M = (kind_N[mark_M - 1] == Kind.DIGIT) & (length_M <= 3) & (kind_N[start_M - 1] == Kind.BREAK)
    short_M = np.isin(word_M, _hashes(ABBREVIATIONS))
    return (
        (stop_M & same_line_M & ~closed_M & (initial_M | item_M | short_M | ordinal_M))
        | (stop_M & lower_M & (length_M < _LOWER_CASE_START))
        | (lower_M & (closed_M | ellipsis_M))
    )


def _words_before(code_N: Codes, kind_N: Kinds, mark_M: Ends) -> tuple[Ends, NDArray[np.uint64]]:
    """Length and hash of the word (letters, digits and inner full stops) before each terminator.

    The length of a word longer than every abbreviation is one more than that of the longest.
    """
    length_M = np.zeros(len(mark_M), np.int64)
    hash_M = np.zeros(len(mark_M), np.uint64)
    inside_M = np.ones(len(mark_M), np.bool_)
    for back in range(1, _LONGEST_ABBREVIATION + 2):
        at_M = np.maximum(mark_M - back, 0)
        code_M, kind_M = code_N[at_M], kind_N[at_M]
        word_M = (kind_M >= Kind.LOWER) & (kind_M <= Kind.MARK)
        inside_M &= (word_M | (code_M == _STOP)) if back > 1 else word_M
        length_M += inside_M
        hash_M = np.where(inside_M, _mix(hash_M, code_M), hash_M)
    return length_M, hash_M


def _mix(hash_M: NDArray[np.uint64], code_M: Codes) -> NDArray[np.uint64]:
    """The hash with one more character, ASCII letters in lower case."""
    lower_M = code_M | (((code_M >= ord("A")) & (code_M <= ord("Z"))) << np.uint8(5)).astype(code_M.dtype)
    return hash_M * np.uint64(0x100000001B3) + lower_M


@functools.cache
def _hashes(word_list: str) -> NDArray[np.uint64]:
    words = word_list.split()
    hashes = np.zeros(len(words), np.uint64)
    for index, word in enumerate(words):
        for char in reversed(word):
            hashes[index] = _mix(hashes[index : index + 1], np.array([ord(char)], np.uint32))[0]
    return hashes
