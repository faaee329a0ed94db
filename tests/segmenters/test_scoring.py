import numpy as np

from segmenters import load
from segmenters.scoring import LabelledText, score, score_ends


def test_scores_count_boundaries_but_not_the_ends_of_texts() -> None:
    text = LabelledText("A b. C d. E", (4, 9, 11))
    counts = score_ends([np.array([5, 7, 11])], [text])
    assert (counts.true_positives, counts.predicted, counts.labelled) == (1, 2, 2)
    assert counts.f1 == counts.precision == counts.recall == 0.5


def test_white_space_may_be_on_either_side_of_an_end() -> None:
    text = "One. Two."
    for end in (4, 5):
        assert score(load("punctuation_v1"), [LabelledText(text, (end, 9))]).f1 == 1.0


def test_without_boundaries_the_score_is_zero() -> None:
    counts = score_ends([np.array([3])], [LabelledText("a b", (3,))])
    assert counts.f1 == counts.precision == counts.recall == 0.0
