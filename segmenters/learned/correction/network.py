"""The network that corrects the rule, in numpy: a sum of table rows, two small layers.

Results are equal for equal places, whatever is computed with them: no matrix product of a library is used.

Shape suffixes: M places, C features, K words, H hidden width, R rows of all tables.
"""

import dataclasses

import numpy as np
from numpy.typing import NDArray

from segmenters.characters import Kind
from segmenters.learned.correction.languages import Languages
from segmenters.learned.correction.places import (
    FEATURES,
    FEATURES_OF_EARLIER,
    STATISTICS,
    WHOLE_WORDS,
    WORDS,
    Places,
)
from segmenters.learned.correction.words import rows_of
from segmenters.learned.networks import LEAK, Floats

_BLOCK = 2**11
"""Places computed together: they fit the processor's cache."""
FOREIGN = 0.1
"""Share of known words below which a text is in a language that was not trained on: of earlier weights."""
CASES = ABBREVIATIONS = 8
"""Steps of each statistic of words; 0 is for unknown words."""


@dataclasses.dataclass(frozen=True)
class Statistics:
    """What unlabelled text tells about words: how often each is in lower case, and how often a full stop that ends no
    sentence is after it."""

    check_V: NDArray[np.uint16]
    step_V: NDArray[np.uint8]
    """[V + 1] step of the case * `ABBREVIATIONS` + step of the abbreviation; the first is 0, for unknown words."""

    def columns(self, words_MK: NDArray[np.uint32]) -> tuple[NDArray[np.int16], NDArray[np.int16]]:
        """The two features of statistics."""
        before_M, after_M, before2_M, after2_M = (
            self.step_V[rows_of(words_MK[:, number], self.check_V)].astype(np.int16) for number in range(4)
        )
        near_M = (after_M // ABBREVIATIONS) * (CASES * ABBREVIATIONS) + before_M
        return near_M, (after2_M // ABBREVIATIONS) * ABBREVIATIONS + before2_M % ABBREVIATIONS


@dataclasses.dataclass(frozen=True)
class Vocabulary:
    """Rows of the tables: those of the features, then those of the words."""

    statistics: Statistics
    checks: tuple[NDArray[np.uint16], ...]
    """For each of `WORDS` its buckets (see `rows_of`)."""

    num_features: int = len(FEATURES)
    """C, of which each place has at least as many."""

    def rows(self, places: Places) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """`[M, C + K]` rows of all tables together, and `[M, K]` rows of the words in their own, 0 for unknown."""
        columns_MC = places.columns_MC[:, : self.num_features].astype(np.int64)
        columns_MC[:, STATISTICS], columns_MC[:, STATISTICS + 1] = self.statistics.columns(places.words_MK)
        columns_MC += np.cumsum([0, *self._sizes])[:-1]
        found = [rows_of(places.words_MK[:, k], check_V) for k, check_V in enumerate(self.checks)]
        rows_MK = np.stack(found, axis=1)
        return np.concatenate([columns_MC, rows_MK + self.unknown_rows], axis=1), rows_MK

    @property
    def has_hangul(self) -> bool:
        """Whether places after Korean verbs were trained on."""
        return self.num_features > FEATURES_OF_EARLIER

    @property
    def _sizes(self) -> list[int]:
        return list(FEATURES.values())[: self.num_features]

    @property
    def first_word(self) -> int:
        """The first row of words."""
        return sum(self._sizes)

    @property
    def unknown_rows(self) -> list[int]:
        """The row for unknown words of each of `WORDS`."""
        sizes = [len(check_V) + 1 for check_V in self.checks]
        return [self.first_word + sum(sizes[:number]) for number in range(len(WORDS))]

    @property
    def num_rows(self) -> int:
        """R."""
        return self.first_word + sum(len(check_V) + 1 for check_V in self.checks)


@dataclasses.dataclass(frozen=True)
class CorrectionNet:
    """Log-odds that a sentence begins at a place."""

    vocabulary: Vocabulary
    table_RH: Floats
    bias_H: Floats
    inner: tuple[Floats, Floats]
    outer: tuple[Floats, Floats]
    margins: tuple[float, ...]
    """Log-odds from which on the network overrules the rule: to join two sentences; to part one after a mark of any
    kind, a quote or a bracket; to part one elsewhere. It does so only in texts in one of `languages`."""
    languages: Languages | None
    """None in weights of earlier versions, which overrule the rule in texts with known words."""

    def begins(self, places: Places) -> NDArray[np.bool_]:
        """Whether a sentence begins at each place, by the rule and where it is overruled."""
        begins_M = places.rule_M.copy()
        if not len(begins_M):
            return begins_M
        rows_MC, words_MK = self.vocabulary.rows(places)
        margin_M, certain_M = self._margins(places, words_MK)
        chosen = np.flatnonzero(certain_M)
        logit_M, margin_M = self.logits(rows_MC[chosen]), margin_M[chosen]
        begins_M[chosen] = np.where(begins_M[chosen], logit_M > -margin_M, logit_M > margin_M)
        return begins_M

    def _margins(self, places: Places, words_MK: NDArray[np.int64]) -> tuple[Floats, NDArray[np.bool_]]:
        """`[M]` log-odds that it takes to overrule the rule, and whether the text is one where it may be."""
        closed_M = (places.columns_MC[:, 0] & 255) >= Kind.PAUSE * 16
        kind_M = np.where(places.rule_M, 0, np.where(closed_M, 1, 2))
        margins = np.array(self.margins, np.float32)
        if self.languages is not None:
            return margins[kind_M], self.languages.recognised(words_MK, places.words_MK, places.text_M)
        # Of earlier margins each is two: where at most one of the words beside the place is known, and where both are.
        known_MK = words_MK > 0
        known_T, words_T = (
            np.bincount(places.text_M, flags_MK[:, :WHOLE_WORDS].sum(1))
            for flags_MK in (known_MK, places.words_MK > 0)
        )
        certain_M = (known_T >= FOREIGN * words_T)[places.text_M]
        return margins[kind_M * 2 + known_MK[:, :2].all(1)], certain_M

    def logits(self, rows_MC: NDArray[np.int64]) -> Floats:
        """`[M]` log-odds for rows of all tables together."""
        logits = np.empty(len(rows_MC), np.float32)
        for low in range(0, len(rows_MC), _BLOCK):
            rows_BC = rows_MC[low : low + _BLOCK]
            hidden_BH = self.table_RH.take(rows_BC[:, 0], axis=0) + self.bias_H
            for number in range(1, rows_BC.shape[1]):
                hidden_BH += self.table_RH.take(rows_BC[:, number], axis=0)  # twice as fast as an index
            for matrix, bias in (self.inner, self.outer):
                hidden_BH = np.einsum(
                    "bh,hk->bk", np.maximum(hidden_BH, hidden_BH * np.float32(LEAK)), matrix
                )
                hidden_BH += bias
            logits[low : low + _BLOCK] = hidden_BH[:, 0]
        return logits
