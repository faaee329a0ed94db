"""Windows cover documents: each unit is predicted once, whatever size and overlap."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from pipeline.stream.windows import Windows


@given(st.lists(st.integers(0, 40), min_size=1, max_size=20), st.integers(1, 15), st.data())
def test_windows_predict_each_unit_once(counts, size, data):
    overlap = data.draw(st.integers(0, size - 1))
    starts = np.cumsum([0, *counts])
    windows = Windows.cover(starts, size, overlap)
    predicted = [
        unit
        for start, end, context in zip(windows.start_W, windows.end_W, windows.context_W, strict=True)
        for unit in range(start + context, end)
    ]
    assert predicted == list(range(starts[-1]))
    assert (windows.end_W - windows.start_W).max(initial=0) <= size
    assert windows.ends_document_W.sum() == sum(count > 0 for count in counts)
