"""Micro-batches are full, of like windows, and hold each window once."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from pipeline.stream.packing import pack


@given(
    st.lists(st.tuples(st.integers(1, 300), st.integers(1, 40)), min_size=1, max_size=60),
    st.integers(1, 400),
)
def test_each_window_once_within_the_budget(windows, budget):
    tokens, length = np.array(windows).T
    packed = pack(tokens, length, budget)
    assert sorted(window for micro_batch in packed for window in micro_batch) == list(range(len(windows)))
    assert all(tokens[micro_batch].sum() <= budget or len(micro_batch) == 1 for micro_batch in packed)


def test_micro_batch_over_half_the_budget_find_partners():
    """As 32-sentence windows of technical English do for 1,024 tokens, of which sorting alone uses 70 %."""
    rng = np.random.default_rng(0)
    full = np.clip(rng.normal(530, 165, 7000), 100, 1024).astype(np.int64)
    counts = rng.integers(1, 32, 1000)
    tokens, length = np.concatenate([full, counts * 16]), np.concatenate([np.full(7000, 32), counts])
    packed = pack(tokens, length, 1024)
    used = sum(tokens[micro_batch].sum() for micro_batch in packed) / (1024 * len(packed))
    rows = sum(len(micro_batch) * length[micro_batch].max() for micro_batch in packed)
    assert used > 0.95
    assert length.sum() / rows > 0.98


def test_a_micro_batch_is_a_sample_of_all_sizes():
    """Windows of four sentences: not sorted by size."""
    rng = np.random.default_rng(0)
    tokens = np.clip(rng.lognormal(4.2, 0.6, 8192), 4, 192).astype(np.int64)
    packed = pack(tokens, np.full(8192, 4), 1024)
    used = sum(tokens[micro_batch].sum() for micro_batch in packed) / (1024 * len(packed))
    assert used > 0.99
    means = np.array([tokens[micro_batch].mean() for micro_batch in packed])
    by_chance = tokens.std() / np.sqrt(np.mean([len(micro_batch) for micro_batch in packed]))
    assert means.std() < 2 * by_chance  # sorted by size: 3.6


def test_the_few_short_windows_at_the_ends_of_documents_are_mixed_with_the_others():
    rng = np.random.default_rng(0)
    length = np.where(rng.random(4096) < 0.03, rng.integers(1, 64, 4096), 64)
    packed = pack(length, length, 2048)
    short = np.array([(length[micro_batch] < 64).mean() for micro_batch in packed])
    assert short.max() < 0.3
    rows = sum(len(micro_batch) * length[micro_batch].max() for micro_batch in packed)
    assert length.sum() / rows > 0.94
