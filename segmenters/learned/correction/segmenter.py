"""The segmenter `learned_v2`.

Code and tables are cut by rules. In prose the rule `punctuation_v2` decides, and a small network overrules it at places
where the answer is open, if its log-odds are large enough. It needs only numpy.
"""

import dataclasses
from pathlib import Path
from typing import ClassVar

import numpy as np

from segmenters.contract import Ends, Segmenter
from segmenters.learned.correction.places import places
from segmenters.learned.correction.thai import thai_starts, without_abbreviations
from segmenters.learned.correction.weights_file import SHIPPED_WEIGHTS, load_weights
from segmenters.learned.regions import split_regions
from segmenters.rules.kinds import classified
from segmenters.rules.segmenter import PunctuationV2


@dataclasses.dataclass(frozen=True)
class LearnedV2(Segmenter):
    """The rule `punctuation_v2` with a shipped network that corrects it; code and tables by line."""

    name: ClassVar[str] = "learned_v2"

    weights: str | None = None
    """File or URL of other weights, trained by `sllm train-segmenter`; none: those shipped with sllm."""

    @property
    def _path(self) -> str | Path:
        return self.weights or SHIPPED_WEIGHTS

    @property
    def weights_digest(self) -> str:
        """SHA-256 of the weights file."""
        return load_weights(self._path).digest

    def split(self, texts: list[str]) -> list[Ends]:
        """See `Segmenter.split`."""
        return split_regions(texts, self.sentence_starts, unspaced_prose=True)

    def sentence_starts(self, batch: str, text_starts: Ends) -> Ends:
        """Where sentences begin in a batch of texts of prose (see `split_batched`)."""
        weights = load_weights(self._path)
        code_N, kind_N = classified(batch)
        rule_starts = PunctuationV2().starts_in(code_N, kind_N, text_starts)
        rule_starts = without_abbreviations(code_N, kind_N, rule_starts)
        found = places(code_N, kind_N, rule_starts, text_starts, weights.correction.vocabulary.has_hangul)
        begins_M = weights.correction.begins(found)
        starts = np.setdiff1d(rule_starts, found.at_M[~begins_M], assume_unique=True)
        more = (
            found.at_M[begins_M & ~found.rule_M],
            weights.unmarked.starts(batch, code_N, kind_N, text_starts),
            thai_starts(batch, code_N, kind_N, rule_starts),
        )
        return np.union1d(starts, np.concatenate(more))
