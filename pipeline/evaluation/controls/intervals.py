"""Intervals of ratios of bits per byte, by a bootstrap over documents."""

import numpy as np

from pipeline.evaluation.scoring import Float64

SAMPLES = 2000
LEVEL = 0.95


def ratio_interval(nll_N: Float64, base_N: Float64) -> tuple[float, float]:
    """The 95 % interval of sum(`nll_N`) / sum(`base_N`): percentiles over 2,000 samples of N documents with replacement
    (Efron and Tibshirani 1993, chapter 13); both models have the same documents in each sample."""
    draw = np.random.Generator(np.random.Philox(0))
    num_documents = len(nll_N)
    counts_BN = draw.multinomial(num_documents, np.full(num_documents, 1 / num_documents), SAMPLES)
    ratios_B = (counts_BN @ nll_N) / (counts_BN @ base_N)
    low, high = np.quantile(ratios_B, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return float(low), float(high)
