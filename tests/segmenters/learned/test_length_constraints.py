import itertools

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from segmenters.learned.length_constraints import best_cuts, ranges_to_split_again


@given(
    words=st.lists(st.tuples(st.integers(1, 3), st.integers(-8, 8)), min_size=1, max_size=9),
    low=st.integers(1, 3),
    high=st.integers(3, 9),
)
def test_no_other_segmentation_is_better(words: list[tuple[int, int]], low: int, high: int) -> None:
    lengths = np.array([length for length, _ in words], np.int64)
    gains = np.array([gain for _, gain in words], np.float32)

    def gain_of(cuts: tuple[int, ...]) -> float:
        sizes = [int(part.sum()) for part in np.split(lengths, list(cuts))]
        if max(sizes) > high:
            return -np.inf
        return float(gains[list(cuts)].sum()) - 50 * sum(size < low for size in sizes)

    inner = range(1, len(words))
    best = max(gain_of(cuts) for count in range(len(words)) for cuts in itertools.combinations(inner, count))
    assert gain_of(tuple(best_cuts(lengths, gains, low, high).tolist())) == best


def test_a_word_above_the_maximum_is_a_sentence() -> None:
    cuts = best_cuts(np.array([1, 9, 1, 1]), np.zeros(4, np.float32), low=1, high=4)
    assert cuts.tolist() == [1, 2]


def test_sentences_that_break_a_constraint_are_split_again_with_their_neighbours() -> None:
    assert ranges_to_split_again(np.array([5, 1, 5, 5, 5, 99]), low=2, high=9) == [(0, 3), (4, 6)]
