"""The worker of `prepare`: from a work unit to its shards, as a pure function of work unit and configuration."""

import hashlib
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

import segmenters
from pipeline.config import Config, DataConfig
from pipeline.corpus import Document, Rejection, WorkUnit, WorkUnitReader
from pipeline.corpus.documents import has_made_form, is_dev_document
from pipeline.corpus.filters import Filter, Signatures, build_filters
from pipeline.errors import ConfigError, ShardError
from pipeline.shards.duplicates import deduplicators
from pipeline.shards.format import OWN_IDS_LIKE_MADE, SplitName
from pipeline.shards.manifest import SHARD_FORMAT_VERSION, Identity, ShardRecord, shard_name
from pipeline.shards.output import FinishedWorkUnit
from pipeline.shards.store import ShardStore, stored_tokenizer
from pipeline.shards.writing import EncodedDocument, shard_bytes
from pipeline.tokenization.sentences import encode_documents
from pipeline.tokenization.tokenizer import Tokenizer
from segmenters import Segmenter
from segmenters.batching import BATCH_CHARACTERS

REPEATED_ID = (
    "an earlier document has the same; give each its own, or name another field in data.id_field (ids are made "
    "where no document has it)"
)


@dataclass(frozen=True)
class WorkUnitTask:
    """A work unit, and its documents to leave out because an earlier work unit has them."""

    work_unit: WorkUnit
    repeated_ids: frozenset[int] = frozenset()
    """Hashes of ids that an earlier work unit has."""
    duplicates: Mapping[str, frozenset[int]] = field(default_factory=dict)
    """Numbers of the documents to drop, in reading order, by deduplicator."""

    def __str__(self) -> str:
        return f"work unit {self.work_unit.index}"


class Worker:
    """Reads, segments and tokenizes work units with one segmenter and one tokenizer, and stores their shards."""

    def __init__(
        self,
        data: DataConfig,
        store: ShardStore,
        identity: Identity,
        segmenter: Segmenter,
        tokenizer: Tokenizer,
    ) -> None:
        self._data = data
        self._store = store
        self._identity = identity
        self._segmenter = segmenter
        self._tokenizer = tokenizer
        self._reader = WorkUnitReader(data)
        self._filters = build_filters(data.filters)
        names = Counter(file.name for file in identity.inputs)
        self._inputs = {
            (file.name if names[file.name] == 1 else file.path, file.is_dev): number
            for number, file in enumerate(identity.inputs)
        }
        """Indexes of the input files, by the file name and split of documents."""

    @classmethod
    def load(cls, config: Config, store: ShardStore, identity: Identity) -> "Worker":
        """A worker in another process, with the segmenter by its name and the tokenizer from the store.

        Raises `ConfigError` or `ShardError` where either differs from that of the job.
        """
        segmenter = segmenters.load(config.segmenter.name, **config.segmenter.options)
        if segmenter.fingerprint() != identity.segmenter:
            raise ConfigError(
                f"segmenter {config.segmenter.name!r} is another one on this worker ({segmenter.fingerprint()}); "
                f"install the same versions on all machines"
            )
        tokenizer = stored_tokenizer(store)
        if tokenizer is None or tokenizer.digest != identity.tokenizer_digest:
            raise ShardError(f"the tokenizer in {store.url!r} was replaced while work went on; run again")
        return cls(config.data, store, identity, segmenter, tokenizer)

    def sign(self, task: WorkUnitTask) -> dict[str, Signatures]:
        """Signatures of the work unit's documents, in order, by deduplicator."""
        chosen = deduplicators(self._filters)
        signed: dict[str, list[NDArray[np.uint64]]] = {name: [] for name in chosen}
        for item in self._reader.read(task.work_unit):
            if isinstance(item, Document):
                for name, step in chosen.items():
                    signed[name].append(step.sign(item.text))
        return {name: np.array(rows, np.uint64) for name, rows in signed.items() if rows}

    def prepare(self, task: WorkUnitTask) -> FinishedWorkUnit:
        """Store the shards of the work unit; of documents with equal ids only the first is kept."""
        encoded: dict[SplitName, list[EncodedDocument]] = {"train": [], "dev": []}
        rejections: list[Rejection] = []
        hashes: list[int] = []
        lossy: dict[SplitName, int] = {"train": 0, "dev": 0}
        by_input: dict[SplitName, Counter[int]] = {"train": Counter(), "dev": Counter()}
        like_made: dict[SplitName, list[int]] = {"train": [], "dev": []}
        for batch in self._batches(task, rejections):
            pieces = encode_documents(
                [document.text for document in batch],
                self._segmenter,
                self._tokenizer,
                self._identity.max_sentence_tokens,
            )
            losses = self._tokenizer.loses(
                [document.text for document in batch], [tokens for tokens, _ in pieces]
            )
            for document, (tokens, sentence_lengths), loses in zip(batch, pieces, losses, strict=True):
                if len(tokens) == 0:
                    rejections.append(_rejected(document, "empty", "the tokenizer makes no token of it"))
                    continue
                row = EncodedDocument(document.doc_id, tokens, sentence_lengths, document.num_bytes)
                is_dev = document.is_dev or is_dev_document(document.hashed, self._data.dev_fraction)
                split: SplitName = "dev" if is_dev else "train"
                if document.has_own_id:
                    hashes.append(document.hashed)
                    if has_made_form(document.doc_id):
                        like_made[split].append(len(encoded[split]))
                encoded[split].append(row)
                by_input[split][self._inputs[document.file, document.is_dev]] += 1
                lossy[split] += loses
        shards = tuple(
            self._store_shard(task.work_unit, split, rows, lossy[split], by_input[split], like_made[split])
            for split, rows in encoded.items()
            if rows
        )
        return FinishedWorkUnit(shards, tuple(rejections), np.array(hashes, np.uint64))

    def _batches(self, task: WorkUnitTask, rejections: list[Rejection]) -> Iterator[list[Document]]:
        seen: set[int] = set()
        batch: list[Document] = []
        size = 0
        number = -1
        for item in self._reader.read(task.work_unit):
            if isinstance(item, Rejection):
                rejections.append(item)
                continue
            number += 1
            if filtered := self._filtered(item, number, task.duplicates):
                rejections.append(filtered)
                continue
            if item.has_own_id:
                if item.hashed in seen or item.hashed in task.repeated_ids:
                    rejections.append(_rejected(item, "duplicate id", REPEATED_ID))
                    continue
                seen.add(item.hashed)
            batch.append(item)
            size += len(item.text)
            if size >= BATCH_CHARACTERS:
                yield batch
                batch, size = [], 0
        if batch:
            yield batch

    def _filtered(
        self, document: Document, number: int, duplicates: Mapping[str, frozenset[int]]
    ) -> Rejection | None:
        """The rejection by the first filter that drops the document; None where none does."""
        for name, step in self._filters.items():
            if isinstance(step, Filter):
                objection = step.objection(document.text)
            else:
                objection = "an earlier document is like it" if number in duplicates.get(name, ()) else None
            if objection is not None:
                return Rejection(
                    document.file, document.position, name, objection, document.doc_id, is_filtered=True
                )
        return None

    def _store_shard(
        self,
        work_unit: WorkUnit,
        split: SplitName,
        rows: list[EncodedDocument],
        lossy_documents: int,
        by_input: Counter[int],
        like_made: list[int],
    ) -> ShardRecord:
        metadata: dict[str, Any] = {
            "format_version": SHARD_FORMAT_VERSION,
            "split": split,
            "index": work_unit.index,
            "inputs": work_unit.inputs(),
            "data": self._identity.data,
            "segmenter": self._identity.segmenter,
            "tokenizer_digest": self._identity.tokenizer_digest,
            "max_sentence_tokens": self._identity.max_sentence_tokens,
        }
        if like_made:
            metadata[OWN_IDS_LIKE_MADE] = like_made
        buffer = shard_bytes(rows, metadata)
        record = ShardRecord(
            file=shard_name(split, work_unit.index),
            split=split,
            index=work_unit.index,
            documents=len(rows),
            sentences=sum(len(row.sentence_lengths) for row in rows),
            tokens=sum(len(row.tokens) for row in rows),
            num_bytes=sum(row.num_bytes for row in rows),
            lossy_documents=lossy_documents,
            file_bytes=buffer.size,
            sha256=hashlib.sha256(buffer).hexdigest(),
            documents_by_input=dict(sorted(by_input.items())),
        )
        self._store.write(record.file, buffer)
        return record


def _rejected(document: Document, reason: str, detail: str) -> Rejection:
    return Rejection(document.file, document.position, reason, detail, document.doc_id)
