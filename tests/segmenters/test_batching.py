"""`split_batched` gives the same ends for a text in one batch and in windows."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from segmenters import batching
from segmenters.batching import split_batched
from segmenters.contract import Ends


def after_full_stops(batch: str, text_starts: Ends) -> Ends:
    assert all(batch[start - 1] == batching.SEPARATOR for start in text_starts)
    return np.array([offset for offset in range(1, len(batch)) if batch[offset - 1] == "."], np.int64)


@given(st.lists(st.text(alphabet="a. ", max_size=30), max_size=4), st.integers(1, 9))
def test_windows_change_nothing(texts: list[str], window: int) -> None:
    expected = split_batched(texts, after_full_stops)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(batching, "WINDOW", window)
        patch.setattr(batching, "CONTEXT", 1)
        found = split_batched(texts, after_full_stops)
    assert [ends.tolist() for ends in found] == [ends.tolist() for ends in expected]


def test_a_start_before_the_first_character_is_ignored() -> None:
    assert split_batched([" a.b", "", "."], after_full_stops)[0].tolist() == [3, 4]
    assert split_batched(["", "."], after_full_stops)[1].tolist() == [1]
