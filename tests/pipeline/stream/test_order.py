"""The order is a pure function of (seed, epoch, shards); nothing is lost or repeated, whoever reads it."""

import json
import os
from collections import Counter
from itertools import islice

import numpy as np
import pytest

from pipeline.config import StreamConfig
from pipeline.errors import TrainingError
from pipeline.stream.order import Corpus, Stream, StreamPosition, StreamState, deal, in_order
from pipeline.stream.prefetch import prefetch
from pipeline.stream.windows import SentenceWindows

OPTIONS = StreamConfig(block_tokens=900, packing_pool_windows=16)
BUDGET = 128
SOAK = int(os.environ.get("SLLM_SOAK_STOPS", "20"))
"""Stops at random moments; `make soak` sets more."""


class Lengths:
    """Windows that are nothing but their lengths; a batch is the tokens' names."""

    def __init__(self, corpus, shards):
        self.names = [f"{corpus}/{shard}/{i}" for shard, lengths in shards for i in range(len(lengths))]
        self.tokens_W = np.concatenate([lengths for _, lengths in shards])
        self.length_W = self.tokens_W

    def batch(self, index):
        return [self.names[i] for i in index]


def corpus(name, num_shards, weight=1.0, opened=None):
    rng = np.random.default_rng(num_shards)
    shards = [rng.integers(1, 60, rng.integers(5, 25)) for _ in range(num_shards)]

    def open_(index):
        if opened is not None:
            opened.append(sum(int(shards[i].sum()) for i in index))
        return Lengths(name, [(i, shards[i]) for i in index])

    tokens = np.array([shard.sum() for shard in shards])
    return Corpus(tokens, open_, weight=weight), [
        f"{name}/{shard}/{i}" for shard, lengths in enumerate(shards) for i in range(len(lengths))
    ]


def read(stream, state=StreamState()):  # noqa: B008
    return ((micro_batch.batch(), after) for micro_batch, after in stream.micro_batches(state))


def first_epoch(stream):
    return [name for micro_batch in stream.first_epoch() for name in micro_batch.batch()]


def test_an_epoch_holds_each_window_once():
    one, names = corpus("a", 12)
    stream = Stream([one], BUDGET, seed=3, options=OPTIONS)
    epochs = {0: [], 1: [], 2: []}
    for batch, after in read(stream):
        if (epoch := after.positions[0].epoch) == 3:
            break
        epochs[epoch] += batch
    assert all(sorted(epoch) == sorted(names) for epoch in epochs.values())
    assert len({tuple(epoch) for epoch in epochs.values()}) == 3


def test_it_is_a_function_of_the_seed():
    one, _ = corpus("a", 12)
    first, again, other = (
        first_epoch(Stream([one], BUDGET, seed=seed, options=OPTIONS)) for seed in (3, 3, 4)
    )
    assert first == again != other


def test_micro_batches_keep_to_their_tokens():
    one, _ = corpus("a", 12)
    for micro_batch in Stream([one], BUDGET, seed=0, options=OPTIONS).first_epoch():
        assert micro_batch.tokens == micro_batch.source.tokens_W[micro_batch.windows].sum()
        assert micro_batch.tokens <= BUDGET or len(micro_batch.windows) == 1


def test_no_more_than_a_block_is_open_at_once():
    opened = []
    one, _ = corpus("a", 30, opened=opened)
    list(islice(read(Stream([one], BUDGET, seed=0, options=OPTIONS)), 300))
    assert len(opened) > 10
    assert max(opened) <= OPTIONS.block_tokens + one.shard_tokens.max()


def test_the_next_block_is_fetched_ahead():
    events = []
    one, _ = corpus("a", 12)
    fetched = Corpus(
        one.shard_tokens,
        lambda index: events.append(("open", index.tolist())) or one.open(index),
        lambda index: events.append(("ahead", index.tolist())),
    )
    list(islice(read(Stream([fetched], BUDGET, seed=0, options=OPTIONS)), 200))
    opened = [index for kind, index in events if kind == "open"]
    ahead = [index for kind, index in events if kind == "ahead"]
    assert len(opened) > 5 and opened[1:] == ahead[: len(opened) - 1]


def test_weights_are_shares_of_the_tokens():
    mixed = [corpus("a", 5, 3.0)[0], corpus("b", 30, 1.0)[0], corpus("c", 9, 0.5)[0]]
    tokens = Counter()
    for count, (micro_batch, _) in enumerate(
        Stream(mixed, BUDGET, seed=0, options=OPTIONS).micro_batches(StreamState())
    ):
        tokens[micro_batch.batch()[0][0]] += micro_batch.tokens
        total = sum(tokens.values())
        for name, share in {"a": 3 / 4.5, "b": 1 / 4.5, "c": 0.5 / 4.5}.items():
            assert abs(tokens[name] - share * total) <= 2 * BUDGET
        if count == 500:
            break


@pytest.mark.parametrize("num_corpora", [1, 3])
def test_any_stop_and_resume_with_any_world_size_reads_the_same(num_corpora):
    """What runs read that stop at random moments, with changing world sizes, is what one uninterrupted run reads:
    packed, mixed and read ahead."""
    mixed = [
        corpus(name, size, weight)[0] for name, size, weight in (("a", 12, 1), ("b", 20, 2.5), ("c", 3, 0.7))
    ]
    stream = Stream(mixed[:num_corpora], BUDGET, seed=1, options=OPTIONS)
    rng = np.random.default_rng(num_corpora)
    stops = [int(rng.integers(1, 12)) for _ in range(SOAK)]
    whole = stream.steps(StreamState(), 4)
    expected = [[m.batch() for m in plan] for plan, _ in islice(whole, sum(stops))]
    done, checkpoint = 0, json.dumps(StreamState().as_dict())
    for stop in stops:
        world_size = int(rng.integers(1, 5))
        state = StreamState.from_dict(json.loads(checkpoint))
        with_thread = int(rng.integers(0, 4))
        steps = prefetch(stream.steps(state, 4), with_thread, 30)
        for plan, after in islice(steps, stop):
            shares = [deal(plan, rank, world_size) for rank in range(world_size)]
            assert len({len(share) for share in shares}) == 1
            rounds = zip(*shares, strict=True)
            assert [m.batch() for round_ in rounds for m, counts in round_ if counts] == expected[done]
            checkpoint, done = json.dumps(after.as_dict()), done + 1
        steps.close()
    assert done == len(expected)


def test_a_checkpoint_of_other_corpora_is_refused():
    one, _ = corpus("a", 12)
    _, state = next(read(Stream([one], BUDGET, seed=0)))
    with pytest.raises(TrainingError, match="1 corpora and cannot go on with 2"):
        next(read(Stream([one, one], BUDGET, seed=0), state))


def test_no_documents_is_an_error():
    empty = Corpus(np.zeros(1, np.int64), lambda index: None)
    with pytest.raises(TrainingError, match="no documents"):
        Stream([empty], 10, 0)


def test_evaluation_reads_each_window_once(random_documents):
    source = SentenceWindows(random_documents(40), 4, 1, 2)
    windows = np.concatenate([m.windows for m in in_order(source, 60, packing_pool_windows=7)])
    assert np.array_equal(np.sort(windows), np.arange(len(source.tokens_W)))


@pytest.mark.parametrize(
    "tree",
    [
        {},
        [],
        None,
        {"places": 3},
        {"places": [{"epoch": "x"}]},
        {"places": [{"block": -1}]},
        {"places": [[]]},
    ],
)
def test_a_state_that_is_none_is_refused(tree):
    with pytest.raises(TrainingError, match="where the stream was"):
        StreamState.from_dict(tree)


def test_a_state_is_read_as_it_was_written():
    state = StreamState((StreamPosition(1, 2, 3, 4), StreamPosition()))
    assert StreamState.from_dict(json.loads(json.dumps(state.as_dict()))) == state
