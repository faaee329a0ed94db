"""The documents of one split of finished shards, by memory map."""

import bisect
import functools
import itertools
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from pipeline.errors import ShardError
from pipeline.shards.format import SCHEMA
from pipeline.shards.manifest import ShardRecord
from pipeline.shards.verification import Verifier

MEND = "run `sllm prepare` again, it makes just this shard anew"


class Documents:
    """All N documents of one split, in the order of the corpus, by memory map."""

    def __init__(
        self, files: Sequence[tuple[Path, ShardRecord]], vocab_size: int, verifier: Verifier | None = None
    ) -> None:
        """Raises `ShardError` where a file is missing or damaged; token ids, and what `verifier` has found, are checked
        when tokens are read."""
        self._verifier = verifier
        self._batches = [_open_batch(path, record) for path, record in files]
        self._paths = [path for path, _ in files]
        self._vocab_size = vocab_size
        self._doc_starts = list(itertools.accumulate((batch.num_rows for batch in self._batches), initial=0))
        self._tokens = [_values(batch, "tokens") for batch in self._batches]
        self._token_starts = list(itertools.accumulate(map(len, self._tokens), initial=0))

    @property
    def num_documents(self) -> int:
        """N."""
        return self._doc_starts[-1]

    def doc_ids(self, index: int) -> str:
        """Id of document `index`."""
        batch = bisect.bisect_right(self._doc_starts, index) - 1
        return self._batches[batch]["doc_id"][index - self._doc_starts[batch]].as_py()

    def tokens(self, start: int, end: int) -> NDArray[np.int32]:
        """The ids of tokens `start` to `end` (exclusive) of the split's stream, all of one document; read-only."""
        if start == end:
            return np.zeros(0, np.int32)
        batch = bisect.bisect_right(self._token_starts, start) - 1
        offset = self._token_starts[batch]
        assert end <= self._token_starts[batch + 1], "a slice of tokens stays inside a document"
        found = self._tokens[batch][start - offset : end - offset]
        self._check_ids(found)
        return found

    def gather(self, start_W: NDArray[np.int64], end_W: NDArray[np.int64]) -> NDArray[np.int32]:
        """Tokens of W spans of the split's token stream, each inside one document, one after the other; a copy."""
        starts = np.array(self._token_starts)
        batch_W = np.searchsorted(starts, start_W, side="right") - 1
        offset_W = starts[batch_W]
        spans = zip(batch_W.tolist(), (start_W - offset_W).tolist(), (end_W - offset_W).tolist(), strict=True)
        found = np.concatenate([self._tokens[batch][start:end] for batch, start, end in spans])
        self._check_ids(found)
        return found

    def _check_ids(self, tokens: NDArray[np.int32]) -> None:
        """Raise `ShardError` naming shard and document where an id is outside the vocabulary, or a damaged shard."""
        if self._verifier is not None:
            self._verifier.check()
        # As unsigned numbers negative ids are the largest: one pass finds both. It costs microseconds per micro-batch.
        if len(tokens) and int(tokens.view(np.uint32).max()) >= self._vocab_size:
            raise ShardError(self._bad_id())

    def _bad_id(self) -> str:
        for path, batch, ids in zip(self._paths, self._batches, self._tokens, strict=True):
            wrong = np.flatnonzero(ids.view(np.uint32) >= self._vocab_size)
            if len(wrong):
                ends = batch["tokens"].offsets.to_numpy(zero_copy_only=True)[1:]
                row = int(np.searchsorted(ends, wrong[0], side="right"))
                return (
                    f"shard {path} is damaged: document {row} ({batch['doc_id'][row].as_py()!r}) has the token id "
                    f"{ids[wrong[0]]}, the tokenizer's are below {self._vocab_size}; {MEND}"
                )
        raise AssertionError("the id was read from one of the shards")

    @functools.cached_property
    def num_bytes_N(self) -> NDArray[np.int64]:
        """[N] UTF-8 bytes of each document's text."""
        return _joined([batch["num_bytes"].to_numpy() for batch in self._batches], np.int64)

    @functools.cached_property
    def sentence_counts_N(self) -> NDArray[np.int64]:
        """[N] sentences of each document."""
        return _joined([_row_lengths(batch, "sentence_lengths") for batch in self._batches], np.int64)

    @functools.cached_property
    def token_counts_N(self) -> NDArray[np.int64]:
        """[N] tokens of each document."""
        return _joined([_row_lengths(batch, "tokens") for batch in self._batches], np.int64)

    @functools.cached_property
    def sentence_lengths(self) -> NDArray[np.int32]:
        """[sentences of all documents] tokens of each."""
        return _joined([_values(batch, "sentence_lengths") for batch in self._batches], np.int32)

    @functools.cached_property
    def sentence_starts_N1(self) -> NDArray[np.int64]:
        """[N + 1] where each document's sentences start in `sentence_lengths`."""
        return np.concatenate([np.zeros(1, np.int64), np.cumsum(self.sentence_counts_N)])

    @functools.cached_property
    def token_starts_N1(self) -> NDArray[np.int64]:
        """[N + 1] where each document's tokens start in the token stream."""
        return np.concatenate([np.zeros(1, np.int64), np.cumsum(self.token_counts_N)])


def _open_batch(path: Path, record: ShardRecord) -> pa.RecordBatch:
    if not path.is_file():
        raise ShardError(f"shard {path} is missing; {MEND}")
    size = path.stat().st_size
    if size != record.file_bytes:
        raise ShardError(f"shard {path} is damaged: {size} bytes instead of {record.file_bytes}; {MEND}")
    try:
        reader = pa.ipc.open_file(pa.memory_map(str(path)))
        batch = reader.get_batch(0)
        if not batch.schema.equals(SCHEMA):
            raise ShardError(f"shard {path} is damaged: its columns are {batch.schema.names}; {MEND}")
        batch.validate(full=True)
    except (pa.ArrowException, OSError, UnicodeDecodeError) as error:
        raise ShardError(f"shard {path} is damaged: {error}; {MEND}") from error
    if any(column.null_count for column in batch.columns):
        raise ShardError(f"shard {path} is damaged: there are rows without a value; {MEND}")
    counts = (batch.num_rows, len(_values(batch, "tokens")), len(_values(batch, "sentence_lengths")))
    if counts != (record.documents, record.tokens, record.sentences):
        raise ShardError(f"shard {path} is not the one the manifest describes; {MEND}")
    for column in ("tokens", "sentence_lengths"):
        offsets = batch[column].offsets
        if (offsets[0].as_py(), offsets[-1].as_py()) != (0, len(_values(batch, column))):
            raise ShardError(f"shard {path} is damaged: not all {column} are of a document; {MEND}")
    lengths = _values(batch, "sentence_lengths")
    ends = np.concatenate([np.zeros(1, np.int64), np.cumsum(lengths, dtype=np.int64)])
    of_row = np.diff(ends[batch["sentence_lengths"].offsets.to_numpy(zero_copy_only=True)])
    wrong = np.flatnonzero(of_row != _row_lengths(batch, "tokens"))
    if len(wrong) or int(lengths.min(initial=1)) < 1:
        row = int(wrong[0]) if len(wrong) else 0
        raise ShardError(
            f"shard {path} is damaged: the sentences of document {row} do not add up to its tokens; {MEND}"
        )
    return batch


def _values(batch: pa.RecordBatch, column: str) -> NDArray[np.int32]:
    return batch[column].values.to_numpy(zero_copy_only=True)


def _row_lengths(batch: pa.RecordBatch, column: str) -> NDArray[np.int64]:
    return np.diff(batch[column].offsets.to_numpy(zero_copy_only=True)).astype(np.int64)


def _joined(parts: list[NDArray[Any]], dtype: type) -> NDArray[Any]:
    return parts[0] if len(parts) == 1 else np.concatenate([np.zeros(0, dtype), *parts])
