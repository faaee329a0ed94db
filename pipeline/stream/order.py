"""The order of training data: which windows form which micro-batch, and in what order.

The order is a pure function of (seed, epoch, shards). An epoch is cut into blocks of shards in a random order, with
about `block_tokens` tokens each. The documents of a block are shuffled by a keyed bijection and packed in pools. So
memory depends on the block, not on the corpus, and a corpus of up to `block_tokens` is shuffled as a whole. World size
decides which rank reads a micro-batch, not its content or order.
"""

import itertools
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from pydantic import TypeAdapter, ValidationError

from pipeline.config import StreamConfig
from pipeline.config.section import LongCount
from pipeline.errors import TrainingError
from pipeline.stream.batches import Batch
from pipeline.stream.packing import pack
from pipeline.stream.permutation import permute
from pipeline.stream.windows import Int64, WindowSource


@dataclass(frozen=True)
class Corpus:
    """Shards of documents, and a function that opens some of them as windows."""

    shard_tokens: Int64
    """Document tokens of each shard."""
    open: Callable[[Int64], WindowSource]
    """The windows of all documents of the shards with these indices."""
    fetch_ahead: Callable[[Int64], None] = lambda shards: None
    """Called with the shards that will be opened next."""
    weight: float = 1.0
    """Its share of the tokens, relative to the other corpora's."""
    finish: Callable[[], None] = lambda: None
    """Called after the last micro-batch; raises where something that was read is found to be damaged."""

    @classmethod
    def of(cls, source: WindowSource) -> "Corpus":
        """One shard, open already."""
        return cls(np.array([source.tokens_W.sum()], np.int64), lambda shards: source)


@dataclass(frozen=True)
class StreamPosition:
    """Position of the next micro-batch in a corpus."""

    epoch: LongCount = 0
    block: LongCount = 0
    """Of the epoch."""
    micro_batch: LongCount = 0
    """Of the block."""
    tokens: LongCount = 0
    """Document tokens read so far, in all epochs."""


@dataclass(frozen=True)
class StreamState:
    """Position of a stream; checkpoints hold it as a small dict."""

    positions: tuple[StreamPosition, ...] = ()
    """Position in each corpus; none: the start."""

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return {_POSITIONS_KEY: [asdict(position) for position in self.positions]}

    @classmethod
    def from_dict(cls, tree: dict[str, Any]) -> "StreamState":
        """What `as_dict` gave. Raises `TrainingError` for anything else."""
        try:
            return cls(_POSITIONS.validate_python(tree[_POSITIONS_KEY]))
        except (KeyError, TypeError, ValidationError) as error:
            raise TrainingError(
                f"the checkpoint does not say where the stream was ({' '.join(str(error).split())}): remove its folder "
                "to go on from the one before, or start anew with --force"
            ) from error


_POSITIONS = TypeAdapter(tuple[StreamPosition, ...])
_POSITIONS_KEY = "places"
"""Key of the positions in a checkpoint: their first name."""


@dataclass(frozen=True)
class MicroBatch:
    """The plan of one micro-batch: its windows, and its document tokens in the loss."""

    source: WindowSource
    windows: Int64
    tokens: int

    def batch(self) -> Batch:
        """Its tensors."""
        return self.source.batch(self.windows)


class Stream:
    """Endless micro-batches of the windows of one corpus, or of several by weight.

    The next micro-batch is from the corpus whose share of the tokens lags most, without randomness: the shares are
    exact to one micro-batch at any time. Raises `TrainingError` for a corpus without documents.
    """

    def __init__(
        self,
        corpora: Sequence[Corpus],
        micro_batch_tokens: int,
        seed: int,
        options: StreamConfig = StreamConfig(),  # noqa: B008 - frozen
    ) -> None:
        if any(corpus.shard_tokens.sum() == 0 for corpus in corpora):
            raise TrainingError(
                "the shards hold no documents for this split: prepare more text, or set data.dev_fraction"
            )
        self.corpora, self.options = corpora, options
        self.micro_batch_tokens, self.seed = micro_batch_tokens, seed

    def micro_batches(self, state: StreamState) -> Iterator[tuple[MicroBatch, StreamState]]:
        """Endless, from `state` on: each micro-batch, and the state after it."""
        positions = list(state.positions or [StreamPosition()] * len(self.corpora))
        if len(positions) != len(self.corpora):
            raise TrainingError(
                f"the checkpoint was written with {len(positions)} corpora and cannot go on with {len(self.corpora)}: "
                "name the same shards, or --force"
            )
        readers = [self._read(corpus, position) for corpus, position in enumerate(positions)]
        while True:
            due = min(
                range(len(positions)),
                key=lambda corpus: positions[corpus].tokens / self.corpora[corpus].weight,
            )
            micro_batch, positions[due] = next(readers[due])
            yield micro_batch, StreamState(tuple(positions))

    def steps(
        self, state: StreamState, micro_batches_per_step: int
    ) -> Iterator[tuple[list[MicroBatch], StreamState]]:
        """Endless, from `state` on: the global batch of each step, and the state after it."""
        step: list[MicroBatch] = []
        for micro_batch, after in self.micro_batches(state):
            step.append(micro_batch)
            if len(step) == micro_batches_per_step:
                yield step, after
                step = []

    def first_epoch(self) -> Iterator[MicroBatch]:
        """From the start, until the first corpus has been read once."""
        before = StreamState()
        for micro_batch, state in self.micro_batches(before):
            if any(position.epoch > 0 for position in state.positions):
                return
            yield micro_batch

    def _read(self, index: int, position: StreamPosition) -> Iterator[tuple[MicroBatch, StreamPosition]]:
        corpus, epoch, tokens = self.corpora[index], position.epoch, position.tokens
        first, done = position.block, position.micro_batch
        while True:
            blocks = self._blocks(index, epoch)
            for block in range(first, len(blocks)):
                source = corpus.open(blocks[block])
                corpus.fetch_ahead(
                    blocks[block + 1] if block + 1 < len(blocks) else self._blocks(index, epoch + 1)[0]
                )
                for number, micro_batch in enumerate(
                    self._shuffled(source, (self.seed, epoch, index, block))
                ):
                    if number >= done:
                        tokens += micro_batch.tokens
                        yield micro_batch, StreamPosition(epoch, block, number + 1, tokens)
                done = 0
            epoch, first = epoch + 1, 0

    def _blocks(self, index: int, epoch: int) -> list[Int64]:
        """The shards of each block of an epoch."""
        tokens = self.corpora[index].shard_tokens
        shards = permute(np.arange(len(tokens)), len(tokens), (self.seed, epoch, index))
        shards = shards[tokens[shards] > 0]
        total = int(tokens[shards].sum())
        count = -(-total // self.options.block_tokens)
        block_of = (np.cumsum(tokens[shards]) - 1) * count // total
        return np.split(shards, np.flatnonzero(np.diff(block_of)) + 1)

    def _shuffled(self, source: WindowSource, key: tuple[int, ...]) -> Iterator[MicroBatch]:
        total = len(source.tokens_W)
        for start, end in pools(total, self.options.packing_pool_windows):
            pool = permute(np.arange(start, end), total, key)
            micro_batches = list(packed(source, pool, self.micro_batch_tokens))
            rng = np.random.Generator(np.random.Philox([*key, start]))
            yield from (micro_batches[i] for i in rng.permutation(len(micro_batches)))


def in_order(
    source: WindowSource, micro_batch_tokens: int, packing_pool_windows: int = 8192
) -> Iterator[MicroBatch]:
    """Each window once, in pools of neighbours in the corpus."""
    for start, end in pools(len(source.tokens_W), packing_pool_windows):
        yield from packed(source, np.arange(start, end), micro_batch_tokens)


def pools(total: int, size: int) -> list[tuple[int, int]]:
    """Starts and ends of pools of about equal size, of at most `size` windows."""
    count = -(-total // size)
    bounds = [total * i // count for i in range(count + 1)]
    return list(itertools.pairwise(bounds))


def packed(source: WindowSource, pool: Int64, micro_batch_tokens: int) -> Iterator[MicroBatch]:
    """The windows of a pool, numbers of one dimension, as micro-batches."""
    tokens_P = source.tokens_W[pool]
    for indexes in pack(tokens_P, source.length_W[pool], micro_batch_tokens):
        yield MicroBatch(source, pool[indexes], int(tokens_P[indexes].sum()))


def deal(micro_batches: list[MicroBatch], rank: int, world_size: int) -> list[tuple[MicroBatch, bool]]:
    """This rank's micro-batches of a global batch, and whether each counts.

    Every rank gets equally many, since under ZeRO-3 all must call the same modules. Where the world size does not
    divide the batch, the last ones are repeats that do not count.
    """
    rounds = -(-len(micro_batches) // world_size)
    picks = [round_ * world_size + rank for round_ in range(rounds)]
    return [
        (micro_batches[pick], True) if pick < len(micro_batches) else (micro_batches[0], False)
        for pick in picks
    ]
