"""The order of training data: which windows of which documents make which micro-batch, and when.

The order is a pure function of (seed, epoch, shards). It is planned from lengths alone, in pools of
`POOL_WINDOWS`, so a plan costs the memory of one pool; documents are permuted over the whole epoch by a
keyed bijection that needs no memory at all. World size decides who reads a micro-batch, never which or when.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pipeline.errors import TrainingError

Int64 = NDArray[np.int64]

POOL_WINDOWS = 8192
"""Windows that are sorted by length together: more means less padding, and less mixing of lengths."""


@dataclass(frozen=True)
class Windows:
    """W windows over documents, in units (sentences, or tokens) that run on from document to document.

    A document longer than a window is covered by several; each repeats `overlap` units of the one before,
    as context that is not scored again.
    """

    document_W: Int64
    """Document of each window."""
    start_W: Int64
    """First unit."""
    end_W: Int64
    """End unit, exclusive."""
    context_W: Int64
    """Leading units that an earlier window has scored."""
    ends_document_W: NDArray[np.bool_]
    """Does the window reach the end of its document?"""

    @classmethod
    def cover(cls, starts_N1: Int64, size: int, overlap: int = 0) -> "Windows":
        """Windows of at most `size` units over documents whose units start at `starts_N1` (N + 1 offsets)."""
        assert 0 <= overlap < size
        stride = size - overlap
        counts_N = np.diff(starts_N1)
        windows_N = np.where(counts_N > 0, np.maximum(-(-(counts_N - overlap) // stride), 1), 0)
        document_W = np.repeat(np.arange(len(counts_N)), windows_N)
        rank_W = np.arange(len(document_W)) - np.repeat(np.cumsum(windows_N) - windows_N, windows_N)
        start_W = starts_N1[document_W] + rank_W * stride
        end_W = np.minimum(start_W + size, starts_N1[document_W + 1])
        return cls(
            document_W,
            start_W,
            end_W,
            np.where(rank_W > 0, overlap, 0),
            end_W == starts_N1[document_W + 1],
        )

    def __len__(self) -> int:
        return len(self.document_W)


@dataclass(frozen=True)
class StreamState:
    """Where a stream is: the next micro-batch. It goes into checkpoints as a small dict."""

    epoch: int = 0
    """Epoch of the next micro-batch."""
    position: int = 0
    """Its place in the epoch."""


@dataclass(frozen=True)
class MicroBatchPlan:
    """One micro-batch: its windows, and the document tokens that it scores."""

    windows: Int64
    tokens: int


class Stream:
    """Endless (or, unshuffled, one epoch of) micro-batches of windows.

    `tokens_W` are the document tokens of each window; `length_W` what padding depends on. A micro-batch
    takes windows of similar length while `tokens` stay within `micro_batch_tokens`.
    """

    def __init__(
        self, tokens_W: Int64, length_W: Int64, micro_batch_tokens: int, seed: int, shuffle: bool = True
    ) -> None:
        if len(tokens_W) == 0:
            raise TrainingError(
                "the shards hold no documents for this split: prepare more text, or set data.dev_fraction"
            )
        self.tokens_W, self.length_W = tokens_W, length_W
        self.micro_batch_tokens, self.seed, self.shuffle = micro_batch_tokens, seed, shuffle

    def epoch(self, epoch: int) -> Iterator[MicroBatchPlan]:
        """The micro-batches of one epoch, in order."""
        total = len(self.tokens_W)
        for start in range(0, total, POOL_WINDOWS):
            pool = np.arange(start, min(start + POOL_WINDOWS, total))
            if self.shuffle:
                pool = permute(pool, total, (self.seed, epoch))
            micro_batches = list(self._pack(pool[np.argsort(self.length_W[pool], kind="stable")]))
            if self.shuffle:
                rng = np.random.Generator(np.random.Philox([self.seed, epoch, start]))
                micro_batches = [micro_batches[i] for i in rng.permutation(len(micro_batches))]
            yield from micro_batches

    def steps(
        self, state: StreamState, micro_batches_per_step: int
    ) -> Iterator[tuple[list[MicroBatchPlan], StreamState]]:
        """From `state` on, without end: the global batch of each step, and the state after it."""
        epoch, position = state.epoch, state.position
        step: list[MicroBatchPlan] = []
        while True:
            for index, micro_batch in enumerate(self.epoch(epoch)):
                if index < position:
                    continue
                step.append(micro_batch)
                if len(step) == micro_batches_per_step:
                    yield step, StreamState(epoch, index + 1)
                    step = []
            epoch, position = epoch + 1, 0

    def _pack(self, sorted_windows: Int64) -> Iterator[MicroBatchPlan]:
        ends = np.cumsum(self.tokens_W[sorted_windows])
        start, taken = 0, 0
        while start < len(sorted_windows):
            end = int(np.searchsorted(ends, taken + self.micro_batch_tokens, side="right"))
            end = max(end, start + 1)
            yield MicroBatchPlan(sorted_windows[start:end], int(ends[end - 1]) - taken)
            start, taken = end, int(ends[end - 1])


def deal(
    micro_batches: list[MicroBatchPlan], rank: int, world_size: int
) -> list[tuple[MicroBatchPlan, bool]]:
    """This rank's share of a global batch, and whether each counts.

    Every rank gets equally many, since under ZeRO-3 all must call the same modules; where the world size
    does not divide the batch, the last are repeats that count for nothing.
    """
    rounds = -(-len(micro_batches) // world_size)
    picks = [round_ * world_size + rank for round_ in range(rounds)]
    return [
        (micro_batches[pick], True) if pick < len(micro_batches) else (micro_batches[0], False)
        for pick in picks
    ]


def permute(index: Int64, size: int, key: tuple[int, int]) -> Int64:
    """A pseudo-random bijection of range(size), evaluated at `index`: no table, whatever the size.

    A four-round Feistel network on the next even number of bits; values that fall outside go round again
    ("cycle walking", Black and Rogaway 2002, https://doi.org/10.1007/3-540-45760-7_9).
    """
    if size <= 1:
        return index
    half_bits = np.uint64((int(size - 1).bit_length() + 1) // 2)
    mask = np.uint64((1 << int(half_bits)) - 1)
    round_keys = np.random.Generator(np.random.Philox(list(key))).integers(0, 2**63, 4, dtype=np.uint64)
    out = index.astype(np.uint64)
    walking = np.ones(len(out), bool)
    while walking.any():
        left, right = out[walking] >> half_bits, out[walking] & mask
        for round_key in round_keys:
            left, right = right, left ^ (_mix(right ^ round_key) & mask)
        out[walking] = left << half_bits | right
        walking = out >= np.uint64(size)
    return out.astype(np.int64)


def _mix(x: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """The finalizer of splitmix64 (https://doi.org/10.1145/2714064.2660195)."""
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return x ^ (x >> np.uint64(31))
