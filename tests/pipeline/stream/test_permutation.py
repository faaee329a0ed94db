"""The order without a table: a bijection, and one that mixes."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from pipeline.stream.permutation import permute


@given(st.integers(1, 3000), st.integers(0, 2**40), st.integers(0, 100))
def test_it_is_a_bijection(size, seed, epoch):
    out = permute(np.arange(size), size, (seed, epoch))
    assert np.array_equal(np.sort(out), np.arange(size))


def test_it_mixes():
    out = permute(np.arange(10_000), 10_000, (0, 0))
    assert abs(np.corrcoef(out, np.arange(10_000))[0, 1]) < 0.05
    assert not np.array_equal(out, permute(np.arange(10_000), 10_000, (0, 1)))
    assert not np.array_equal(out, permute(np.arange(10_000), 10_000, (1, 0)))
