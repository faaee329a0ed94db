"""The segmenter `punctuation_v2`.

Array code classifies all characters, then looks only at line breaks and terminators, and at the words beside them.

Shape suffixes: N characters, M terminators, W words (separated by white space).
"""

import dataclasses
from typing import ClassVar

import numpy as np

from segmenters.batching import split_batched
from segmenters.characters import Codes, Kind, Kinds, word_starts
from segmenters.contract import Ends, Segmenter
from segmenters.rules.ends import sentence_ends
from segmenters.rules.kinds import classified
from segmenters.rules.line_breaks import hard_breaks
from segmenters.rules.lists import item_starts
from segmenters.rules.scripts import ends_without_mark, other_marks
from segmenters.rules.sorted_offsets import merged

_LF, _CR = map(ord, "\n\r")


@dataclasses.dataclass(frozen=True)
class PunctuationV2(Segmenter):
    """Splits after the final marks of all scripts, with what belongs to them, and at line breaks.

    A full stop ends no sentence after an abbreviation, an initial, an ordinal number, a day of a month or the number of
    an item (`words.txt` has the words of 30 languages), and no mark does before lower case, unless the text is written
    so. A line break inside a hard-wrapped paragraph counts as a space. Items of a list in one line are sentences.
    CRLF and LF give the same answer. Time is linear; peak memory is below 64 MiB beside the texts and the answer.
    """

    name: ClassVar[str] = "punctuation_v2"

    line_breaks: bool = True
    """A line break ends a sentence, unless the paragraph is hard-wrapped or the next line begins in lower case. Off:
    only an empty line ends a sentence."""

    def split(self, texts: list[str]) -> list[Ends]:
        """See `Segmenter.split`."""
        return split_batched(texts, self.sentence_starts)

    def sentence_starts(self, batch: str, text_starts: Ends) -> Ends:
        """Where sentences begin in a batch of texts (see `split_batched`)."""
        return self.starts_in(*classified(batch), text_starts)

    def starts_in(self, code_N: Codes, kind_N: Kinds, text_starts: Ends) -> Ends:
        """The same, of a batch whose characters are `classified`."""
        pairs = np.flatnonzero((code_N[:-1] == _CR) & (code_N[1:] == _LF))
        if not len(pairs):
            return self._starts(code_N, kind_N, text_starts)
        # Without the CR of each CRLF the answer is that for LF.
        kept_N = np.ones(len(code_N), np.bool_)
        kept_N[pairs] = False
        starts = self._starts(
            code_N[kept_N], kind_N[kept_N], text_starts - np.searchsorted(pairs, text_starts)
        )
        return starts + np.searchsorted(pairs - np.arange(len(pairs)), starts)

    def _starts(self, code_N: Codes, kind_N: Kinds, text_starts: Ends) -> Ends:
        start_W = np.append(word_starts(kind_N), len(kind_N))
        hard_W, lower_breaks, kind_N = hard_breaks(code_N, kind_N, start_W, text_starts, self.line_breaks)
        more_marks, more_ends = other_marks(code_N, kind_N), ends_without_mark(code_N, kind_N)
        items = item_starts(code_N, kind_N, start_W)
        after_M = sentence_ends(code_N, kind_N, start_W, text_starts, lower_breaks, more_marks, items)
        after_M = np.concatenate([after_M, more_ends])
        inside_M = kind_N[np.minimum(after_M, len(kind_N) - 1)] > Kind.BREAK
        start_M = np.where(inside_M, after_M, start_W[np.searchsorted(start_W, after_M)])
        return merged(start_M, hard_W, items)
