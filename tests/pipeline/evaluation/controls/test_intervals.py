"""Intervals of ratios over documents."""

import numpy as np
import pytest

from pipeline.evaluation.controls.intervals import ratio_interval


def test_equal_models_have_no_interval():
    nll_N = np.random.default_rng(0).random(50)
    assert ratio_interval(nll_N, nll_N) == (1.0, 1.0)
    assert ratio_interval(2 * nll_N, nll_N) == pytest.approx((2.0, 2.0))


def test_it_holds_the_true_ratio_about_as_often_as_it_says():
    held = 0
    for seed in range(200):
        rng = np.random.default_rng(seed)
        base_N = rng.gamma(2.0, 100.0, 200)
        low, high = ratio_interval(base_N * rng.normal(0.97, 0.05, 200), base_N)
        held += low <= 0.97 <= high
    assert 0.88 <= held / 200 <= 0.99
