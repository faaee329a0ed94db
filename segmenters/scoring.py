"""Labelled texts, and precision, recall and F1 of boundaries on them."""

import dataclasses
from collections.abc import Iterable, Sequence

import numpy as np

from segmenters.contract import Ends, Segmenter


@dataclasses.dataclass(frozen=True)
class LabelledText:
    """A text with the ends of its sentences: characters, exclusive, increasing.

    White space between two sentences may be on either side of the end.
    """

    text: str
    ends: tuple[int, ...]


@dataclasses.dataclass(frozen=True)
class Score:
    """Counts of boundaries over texts. The end of a text is no boundary."""

    true_positives: int = 0
    predicted: int = 0
    labelled: int = 0

    @property
    def precision(self) -> float:
        """Share of the predicted boundaries that are labelled."""
        return self.true_positives / max(self.predicted, 1)

    @property
    def recall(self) -> float:
        """Share of the labelled boundaries that are predicted."""
        return self.true_positives / max(self.labelled, 1)

    @property
    def f1(self) -> float:
        """Harmonic mean of precision and recall."""
        return 2 * self.true_positives / max(self.predicted + self.labelled, 1)


def score(segmenter: Segmenter, texts: Sequence[LabelledText]) -> Score:
    """The score of a segmenter on labelled texts."""
    return score_ends(segmenter.split([labelled.text for labelled in texts]), texts)


def score_ends(predicted: Iterable[Ends], texts: Sequence[LabelledText]) -> Score:
    """The score of predicted ends. Boundaries are equal if as many characters, without white space, are before them."""
    true_positives = num_predicted = num_labelled = 0
    for ends, labelled in zip(predicted, texts, strict=True):
        solid_before = np.cumsum([0, *(not char.isspace() for char in labelled.text)])
        edges = {0, int(solid_before[-1])}
        gold = set(solid_before[list(labelled.ends)].tolist()) - edges
        found = set(solid_before[ends].tolist()) - edges
        true_positives += len(gold & found)
        num_predicted, num_labelled = num_predicted + len(found), num_labelled + len(gold)
    return Score(true_positives, num_predicted, num_labelled)
