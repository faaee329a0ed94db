"""How good boundaries are: the counts behind precision, recall and F1."""

import dataclasses
from collections.abc import Iterable, Sequence

import numpy as np

from segmenters.contract import Ends, Segmenter
from segmenters.learned.training.examples import Example


@dataclasses.dataclass(frozen=True)
class Score:
    """Counts of boundaries over texts: an end of a text is none."""

    hit: int = 0
    said: int = 0
    true: int = 0

    @property
    def precision(self) -> float:
        """Share of the boundaries said that are true."""
        return self.hit / max(self.said, 1)

    @property
    def recall(self) -> float:
        """Share of the true boundaries that were said."""
        return self.hit / max(self.true, 1)

    @property
    def f1(self) -> float:
        """Harmonic mean of precision and recall."""
        return 2 * self.hit / max(self.said + self.true, 1)


def score(segmenter: Segmenter, examples: Sequence[Example]) -> Score:
    """The score of a segmenter on texts with known boundaries."""
    return score_ends(segmenter.split([example.text for example in examples]), examples)


def score_ends(found: Iterable[Ends], examples: Sequence[Example]) -> Score:
    """The score of ends that were found. A boundary counts as the characters, but white space, before it."""
    hit = said = true = 0
    for ends, example in zip(found, examples, strict=True):
        solid_before = np.cumsum([0, *(not char.isspace() for char in example.text)])
        edges = {0, int(solid_before[-1])}
        gold = set(solid_before[list(example.ends)].tolist()) - edges
        mine = set(solid_before[ends].tolist()) - edges
        hit, said, true = hit + len(gold & mine), said + len(mine), true + len(gold)
    return Score(hit, said, true)
