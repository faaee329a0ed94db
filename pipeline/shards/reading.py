"""Reading finished shards (`format`): manifest, tokenizer, and the documents of a split by memory map."""

import bisect
import functools
import itertools
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from pipeline.config import StreamConfig
from pipeline.errors import ConfigError, ShardError
from pipeline.lineage import MANIFEST_NAME, digest_file
from pipeline.shards.cache import ShardCache
from pipeline.shards.format import SCHEMA, TOKENIZER_FOLDER, SplitName
from pipeline.shards.manifest import PROGRESS, Manifest, ShardRecord
from pipeline.shards.verification import Verifier, damaged_shards
from pipeline.tokenization.tokenizer import Tokenizer


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
                    f"{ids[wrong[0]]}, the tokenizer's are below {self._vocab_size}; {_MEND}"
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


@dataclass(frozen=True)
class Shards:
    """A folder of finished shards."""

    folder: str
    """Folder or fsspec URL."""
    manifest: Manifest
    cache: ShardCache | None = None
    """Cache of remote shards; None for a local folder."""
    verifier: Verifier | None = None
    """Compares the checksums of local shards when they are first read; None: they are not compared."""

    def tokenizer(self) -> Tokenizer:
        """The tokenizer that made the ids. Raises `ShardError` where the folder has another one."""
        return self._tokenizer

    @functools.cached_property
    def _tokenizer(self) -> Tokenizer:
        folder = self.cache.tokenizer() if self.cache else Path(self.folder) / TOKENIZER_FOLDER
        try:
            tokenizer = Tokenizer.load(str(folder))
        except ConfigError as error:
            raise ShardError(f"the tokenizer of the shards in {self.folder!r} is damaged: {error}") from error
        check_tokenizer(self, tokenizer.digest)
        here = (tokenizer.bos_id, tokenizer.eos_id)
        if self.manifest.bos_eos not in (None, here):
            raise ShardError(
                f"shards {self.folder!r} were made with BOS and EOS of ids {self.manifest.bos_eos}; the tokenizer "
                f"there now has {here}: put back its tokenizer_config.json, or prepare again"
            )
        return tokenizer

    def records(self, split: SplitName) -> list[ShardRecord]:
        """The shards of a split."""
        return self._records[split]

    @functools.cached_property
    def _records(self) -> dict[SplitName, list[ShardRecord]]:
        # Kept: each block of an epoch asks for them, and the more shards there are, the more blocks.
        found: dict[SplitName, list[ShardRecord]] = {"train": [], "dev": []}
        for record in self.manifest.shards:
            found[record.split].append(record)
        return found

    def documents(self, split: SplitName, shards: Iterable[int] | None = None) -> Documents:
        """Documents of a split, or of some of its shards; remote shards are fetched and verified, local ones verified,
        large ones of them while they are read.

        Raises `ShardError` where a shard is missing or damaged; of a large local one, a later read does.
        """
        records = self.records(split)
        chosen = records if shards is None else [records[index] for index in shards]
        if self.cache is not None:
            files = list(zip(self.cache.fetch(chosen), chosen, strict=True))
        else:
            files = [(Path(self.folder) / record.file, record) for record in chosen]
        documents = Documents(files, self.tokenizer().vocab_size, self.verifier)
        if self.verifier is not None:
            self.verifier.begin(files)
        return documents

    def finish_verifying(self) -> None:
        """Wait until all local shards that were read are verified. Raises `ShardError` for a damaged one."""
        if self.verifier is not None:
            self.verifier.check(wait=True)

    def fetch_ahead(self, split: SplitName, shards: Iterable[int]) -> None:
        """Start to fetch remote shards that will be read next."""
        if self.cache is not None:
            records = self.records(split)
            self.cache.fetch_ahead([records[index] for index in shards])

    def damaged(self, on_done: Callable[[ShardRecord], object] = lambda record: None) -> list[ShardRecord]:
        """The shards whose bytes, in the folder or at the URL, have not the checksum of the manifest.

        `on_done` is called with each when it is compared.
        """
        sha256 = self.cache.sha256 if self.cache is not None else self._sha256
        return damaged_shards(self.manifest.shards, sha256, on_done)

    def _sha256(self, name: str) -> str | None:
        path = Path(self.folder) / name
        return digest_file(path) if path.is_file() else None

    def verify(self) -> None:
        """Compare the checksum of every shard. Raises `ShardError` that names the first that differs."""
        for record in self.damaged():
            raise ShardError(
                f"{self.folder.rstrip('/')}/{record.file} is damaged: its checksum is not that of the manifest; {_MEND}"
            )


def open_shards(
    folder: str,
    options: StreamConfig = StreamConfig(),  # noqa: B008 - frozen
    verify: bool = True,
) -> Shards:
    """The finished shards in a folder or at an fsspec URL; `options` name the cache of remote ones. `verify`: whether
    the checksums of local ones are compared when they are first read; those of remote ones always are.

    Raises `ShardError` where there are none, or the manifest is damaged.
    """
    if "://" in folder:
        cache = ShardCache(folder, options)
        return Shards(folder, Manifest.parse(cache.read(MANIFEST_NAME), f"{folder}/{MANIFEST_NAME}"), cache)
    path = Path(folder)
    if not (path / MANIFEST_NAME).is_file():
        if (path / PROGRESS).is_dir():
            raise ShardError(
                f"shards {folder!r} are unfinished; run the same `sllm prepare` again to finish them"
            )
        raise ShardError(
            f"there are no shards in {folder!r} (no {MANIFEST_NAME}); make them with `sllm prepare`"
        )
    manifest = Manifest.parse((path / MANIFEST_NAME).read_bytes(), str(path / MANIFEST_NAME))
    return Shards(folder, manifest, verifier=Verifier() if verify else None)


def check_tokenizer(shards: Shards, digest: str) -> None:
    """Raise `ShardError` unless the shards were made with the tokenizer of this digest."""
    if shards.manifest.tokenizer_digest != digest:
        raise ShardError(
            f"shards {shards.folder!r} were made with another tokenizer (digest "
            f"{shards.manifest.tokenizer_digest[:12]}, here {digest[:12]}); prepare the corpus with this one"
        )


def mixing_weights(mixed: Sequence[Shards], weights: Sequence[float] | None) -> list[float]:
    """The weight of each of several shards, by default their train tokens.

    Raises `ConfigError` for another number of weights.
    """
    if weights is None:
        return [float(one.manifest.totals["train"].tokens) for one in mixed]
    if len(weights) != len(mixed):
        raise ConfigError(
            f"stream.weights has {len(weights)} weights for {len(mixed)} shards: give one for each"
        )
    return list(weights)


_MEND = "run `sllm prepare` again, it makes just this shard anew"


def _open_batch(path: Path, record: ShardRecord) -> pa.RecordBatch:
    if not path.is_file():
        raise ShardError(f"shard {path} is missing; {_MEND}")
    size = path.stat().st_size
    if size != record.file_bytes:
        raise ShardError(f"shard {path} is damaged: {size} bytes instead of {record.file_bytes}; {_MEND}")
    try:
        reader = pa.ipc.open_file(pa.memory_map(str(path)))
        batch = reader.get_batch(0)
        if not batch.schema.equals(SCHEMA):
            raise ShardError(f"shard {path} is damaged: its columns are {batch.schema.names}; {_MEND}")
        batch.validate(full=True)
    except (pa.ArrowException, OSError, UnicodeDecodeError) as error:
        raise ShardError(f"shard {path} is damaged: {error}; {_MEND}") from error
    if any(column.null_count for column in batch.columns):
        raise ShardError(f"shard {path} is damaged: there are rows without a value; {_MEND}")
    counts = (batch.num_rows, len(_values(batch, "tokens")), len(_values(batch, "sentence_lengths")))
    if counts != (record.documents, record.tokens, record.sentences):
        raise ShardError(f"shard {path} is not the one the manifest describes; {_MEND}")
    for column in ("tokens", "sentence_lengths"):
        offsets = batch[column].offsets
        if (offsets[0].as_py(), offsets[-1].as_py()) != (0, len(_values(batch, column))):
            raise ShardError(f"shard {path} is damaged: not all {column} are of a document; {_MEND}")
    lengths = _values(batch, "sentence_lengths")
    ends = np.concatenate([np.zeros(1, np.int64), np.cumsum(lengths, dtype=np.int64)])
    of_row = np.diff(ends[batch["sentence_lengths"].offsets.to_numpy(zero_copy_only=True)])
    wrong = np.flatnonzero(of_row != _row_lengths(batch, "tokens"))
    if len(wrong) or int(lengths.min(initial=1)) < 1:
        row = int(wrong[0]) if len(wrong) else 0
        raise ShardError(
            f"shard {path} is damaged: the sentences of document {row} do not add up to its tokens; {_MEND}"
        )
    return batch


def _values(batch: pa.RecordBatch, column: str) -> NDArray[np.int32]:
    return batch[column].values.to_numpy(zero_copy_only=True)


def _row_lengths(batch: pa.RecordBatch, column: str) -> NDArray[np.int64]:
    return np.diff(batch[column].offsets.to_numpy(zero_copy_only=True)).astype(np.int64)


def _joined(parts: list[NDArray[Any]], dtype: type) -> NDArray[Any]:
    return parts[0] if len(parts) == 1 else np.concatenate([np.zeros(0, dtype), *parts])
