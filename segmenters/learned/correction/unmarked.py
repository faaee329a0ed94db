"""Sentences in long lines without any mark: transcripts, verse and chat in one line.

The network is that for unpunctuated text of `segmenters.learned.networks`; each stretch is computed alone.

Shape suffixes: N characters, B bounds of stretches, W words of a stretch.
"""

import dataclasses

import numpy as np
from numpy.typing import NDArray

from segmenters.batching import SEPARATOR
from segmenters.characters import Codes, Kind, Kinds
from segmenters.contract import Ends
from segmenters.learned.correction.ideographs import IdeographNet
from segmenters.learned.features import extract_features
from segmenters.learned.networks import UNKNOWN_WORD, UnpunctuatedNet, word_rows
from segmenters.rules.kinds import are

_SHORTEST, _FEWEST_IN_TEXT, _FEWEST_LOWER = 16, 4, 32
"""Least characters of a line without marks; least words where it is in small letters alone, as in a transcript, and is
the whole text, or one line of it."""
_CAUTION, _SURE = 2.0, 48
"""Log-odds that a sentence must have in a very short stretch, and words from which on it needs none: a short one may be
a single sentence."""
_FEWEST_WORDS = 90
"""Words or ideographs of another stretch, which may be a single sentence."""
_WORDS_PER_SIGN = 3
"""With more symbols, brackets and quotes than one in so many words a stretch is code."""
_BETWEEN_NOUNS = "、·"
"""Pauses that text without other marks may have."""
_LEAST_KNOWN = 0.5
"""Share of the words that the network knows."""


@dataclasses.dataclass(frozen=True)
class Unmarked:
    """The network for unpunctuated text and its vocabulary."""

    check_V: NDArray[np.uint16]
    net: UnpunctuatedNet
    shift: float
    """Added to the log-odds."""
    ideographs: IdeographNet | None = None
    """The network for stretches of more ideographs than spaces; none in weights of earlier versions."""

    def starts(self, batch: str, code_N: Codes, kind_N: Kinds, text_starts: Ends) -> Ends:
        """Where further sentences begin in a batch of texts."""
        bound_B = np.flatnonzero(
            (kind_N >= Kind.TERMINATOR) | (kind_N == Kind.BREAK) | (kind_N == Kind.PAUSE)
        )
        bound_B = bound_B[(kind_N[bound_B] != Kind.PAUSE) | ~are(code_N[bound_B], _BETWEEN_NOUNS)]
        low_B, high_B = bound_B[:-1] + 1, bound_B[1:]
        broken_B = kind_N[bound_B] == Kind.BREAK
        long_B = (high_B - low_B > _SHORTEST) & broken_B[:-1] & broken_B[1:]
        low_B, high_B = low_B[long_B], high_B[long_B]
        if not len(low_B):
            return low_B
        kinds_B = _kinds_within(kind_N, low_B, high_B)
        words_B = kinds_B[:, Kind.SPACE] + kinds_B[:, Kind.IDEOGRAPH]
        lower_B = (kinds_B[:, Kind.UPPER] == 0) & (kinds_B[:, Kind.LOWER] > words_B)
        whole_B = np.isin(low_B, text_starts) & np.isin(high_B + 1, [*text_starts, len(code_N)])
        signs_B = kinds_B[:, [Kind.SYMBOL, Kind.OPENER, Kind.QUOTE, Kind.CLOSER]].sum(1)
        prose_B = signs_B * _WORDS_PER_SIGN <= words_B
        fewest_lower_B = np.where(whole_B, _FEWEST_IN_TEXT, _FEWEST_LOWER)
        chosen_B = prose_B & (words_B >= np.where(lower_B, fewest_lower_B, _FEWEST_WORDS))
        dense_B = kinds_B[:, Kind.IDEOGRAPH] > kinds_B[:, Kind.SPACE]
        found = [
            self._inside(batch[low:high], dense) + low
            for low, high, dense in zip(
                low_B[chosen_B].tolist(), high_B[chosen_B].tolist(), dense_B[chosen_B].tolist(), strict=True
            )
        ]
        return np.concatenate([np.empty(0, np.int64), *found])

    def _inside(self, text: str, dense: bool) -> Ends:
        """Where sentences begin within a stretch."""
        none = np.empty(0, np.int64)
        row = extract_features(SEPARATOR + text + SEPARATOR, np.array([len(SEPARATOR)], np.int64), none)
        real_W = np.flatnonzero(row.start_W >= 0)
        if len(real_W) < _FEWEST_IN_TEXT:
            return none
        if dense and self.ideographs is not None:
            if np.mean(self.ideographs.known(row.word_W[real_W])) < _LEAST_KNOWN:
                return none
            begins_W = self.ideographs.logits(row.word_W)[real_W[1:]] >= 0
            return row.start_W[real_W[1:][begins_W]] - len(SEPARATOR)
        word_W = word_rows(row.word_W, self.check_V)
        if np.mean(word_W[real_W] > UNKNOWN_WORD) < _LEAST_KNOWN:
            return none
        logit_W = self.net.logits(row, word_W, real_W[1:]) + np.float32(self.shift)
        least = _CAUTION * max(1 - len(real_W) / _SURE, 0)
        return row.start_W[real_W[1:][logit_W >= least]] - len(SEPARATOR)


def _kinds_within(kind_N: Kinds, low_B: Ends, high_B: Ends) -> NDArray[np.int64]:
    """[B, 16] how many characters of each kind are in each stretch."""
    length_B = high_B - low_B
    stretch = np.repeat(np.arange(len(low_B)), length_B)  # of the characters of all stretches
    shift_B = low_B - np.append(0, np.cumsum(length_B)[:-1])
    kind = kind_N[np.arange(len(stretch)) + shift_B[stretch]]
    return np.bincount(stretch * 16 + kind, minlength=16 * len(low_B)).reshape(-1, 16)
