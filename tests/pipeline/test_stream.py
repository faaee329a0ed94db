"""The order is a pure function of (seed, epoch, lengths); nothing is lost or repeated, whoever reads it."""

from itertools import islice

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import pipeline.stream
from pipeline.errors import TrainingError
from pipeline.stream import Stream, StreamState, Windows, deal, permute

LENGTHS = np.random.default_rng(0).integers(1, 60, 300)


@pytest.fixture
def stream(monkeypatch):
    monkeypatch.setattr(pipeline.stream, "POOL_WINDOWS", 64)
    return Stream(LENGTHS, LENGTHS, micro_batch_tokens=128, seed=3)


@given(st.integers(1, 3000), st.integers(0, 2**40), st.integers(0, 100))
def test_permute_is_a_bijection(size, seed, epoch):
    out = permute(np.arange(size), size, (seed, epoch))
    assert np.array_equal(np.sort(out), np.arange(size))


def test_permute_mixes():
    out = permute(np.arange(10_000), 10_000, (0, 0))
    assert abs(np.corrcoef(out, np.arange(10_000))[0, 1]) < 0.05
    assert not np.array_equal(out, permute(np.arange(10_000), 10_000, (0, 1)))
    assert not np.array_equal(out, permute(np.arange(10_000), 10_000, (1, 0)))


@given(st.lists(st.integers(0, 40), min_size=1, max_size=20), st.integers(1, 15), st.data())
def test_windows_score_each_unit_once(counts, size, data):
    overlap = data.draw(st.integers(0, size - 1))
    starts = np.cumsum([0, *counts])
    windows = Windows.cover(starts, size, overlap)
    scored = [
        unit
        for start, end, context in zip(windows.start_W, windows.end_W, windows.context_W, strict=True)
        for unit in range(start + context, end)
    ]
    assert scored == list(range(starts[-1]))
    assert (windows.end_W - windows.start_W).max(initial=0) <= size
    assert windows.ends_document_W.sum() == sum(count > 0 for count in counts)


def test_an_epoch_holds_each_window_once(stream):
    for epoch in range(3):
        windows = np.concatenate([m.windows for m in stream.epoch(epoch)])
        assert np.array_equal(np.sort(windows), np.arange(len(LENGTHS)))
    first, second = (np.concatenate([m.windows for m in stream.epoch(e)]) for e in (0, 1))
    assert not np.array_equal(first, second)


def test_micro_batches_keep_to_their_tokens(stream):
    for micro_batch in stream.epoch(0):
        assert micro_batch.tokens == LENGTHS[micro_batch.windows].sum()
        assert micro_batch.tokens <= 128 or len(micro_batch.windows) == 1


def test_any_stop_and_resume_with_any_world_size_reads_the_same(stream):
    """What 20 interrupted runs with changing world sizes read is what one uninterrupted run reads."""
    expected = [[m.windows.tolist() for m in plan] for plan, _ in islice(stream.steps(StreamState(), 4), 120)]
    rng = np.random.default_rng(1)
    state, done = StreamState(), 0
    while done < 120:
        world_size, count = int(rng.integers(1, 5)), int(rng.integers(1, 12))
        for plan, after in islice(stream.steps(state, 4), min(count, 120 - done)):
            shares = [deal(plan, rank, world_size) for rank in range(world_size)]
            read = [
                m.windows.tolist() for round_ in zip(*shares, strict=True) for m, counts in round_ if counts
            ]
            assert read == expected[done]
            assert len({len(share) for share in shares}) == 1
            state, done = after, done + 1


def test_no_documents_is_an_error():
    empty = np.zeros(0, np.int64)
    with pytest.raises(TrainingError, match="no documents"):
        Stream(empty, empty, 10, 0)
