"""From a split of the corpus to the bytes of its shards: a pure function of split and configuration."""

import hashlib
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from pipeline.config import Config, DataConfig
from pipeline.corpus import Document, Rejection, Survey, WorkUnit, WorkUnitReader
from pipeline.corpus.filters import Deduplicator, Filter, Signatures, build_filters
from pipeline.corpus.work_units import has_made_form, is_dev_document
from pipeline.redaction import redacted
from pipeline.shards.format import OWN_IDS_LIKE_MADE, EncodedDocument, SplitName, shard_bytes
from pipeline.shards.manifest import FORMAT_VERSION, Identity, InputFile, ShardRecord, shard_name
from pipeline.tokenization.sentences import encode_documents
from pipeline.tokenization.tokenizer import Tokenizer
from segmenters import Segmenter

BATCH_CHARACTERS = 2**20
"""Documents are segmented and tokenized in batches of about this size: enough to hide calls, small in memory."""

REPEATED_ID = (
    "an earlier document has the same; give each its own, or name another field in data.id_field (ids are made "
    "where no document has it)"
)


@dataclass(frozen=True)
class WorkUnitTask:
    """A split, and what to leave out of it because it stands elsewhere too."""

    split: WorkUnit
    repeated_ids: frozenset[int] = frozenset()
    """Hashes of ids that an earlier split has."""
    duplicates: Mapping[str, frozenset[int]] = field(default_factory=dict)
    """By deduplicator, the documents it drops, numbered in the order they are read."""


@dataclass(frozen=True)
class PreparedWorkUnit:
    """What one split has become."""

    shards: tuple[tuple[ShardRecord, pa.Buffer], ...]
    rejections: tuple[Rejection, ...]
    id_hashes: NDArray[np.uint64]
    """64-bit hashes of the documents' own ids; ids that were made here may repeat."""


def make_identity(
    config: Config, surveys: list[Survey], work_unit_bytes: int, segmenter: Segmenter, tokenizer_digest: str
) -> Identity:
    """Everything that the shards of this configuration are a function of."""
    inputs = tuple(
        InputFile(
            name=survey.source.name,
            path=redacted(survey.source.path),
            sha256=survey.sha256,
            num_bytes=survey.num_bytes,
            is_dev=survey.source.is_dev,
        )
        for survey in surveys
    )
    return Identity(
        format_version=FORMAT_VERSION,
        inputs=inputs,
        data=reading_options(config.data),
        segmenter=segmenter.fingerprint(),
        tokenizer_digest=tokenizer_digest,
        max_sentence_tokens=config.prepare.max_sentence_tokens,
        work_unit_bytes=work_unit_bytes,
    )


def reading_options(data: DataConfig) -> dict[str, Any]:
    """The options that change which documents there are."""
    # Inputs count by name and checksum; how much may be rejected changes no shard.
    options = data.model_dump(mode="json", exclude={"inputs", "dev_inputs", "max_rejected_fraction"})
    # These came later: where they are not set, shards have the bytes that they had before.
    added = {"delimiter": None, "encoding": "utf-8"}
    return {key: value for key, value in options.items() if key not in added or value != added[key]}


class WorkUnitPreparer:
    """Reads, segments and tokenizes splits; holds one tokenizer and one segmenter for life."""

    def __init__(
        self, data: DataConfig, identity: Identity, segmenter: Segmenter, tokenizer: Tokenizer
    ) -> None:
        self._data = data
        self._identity = identity
        self._segmenter = segmenter
        self._tokenizer = tokenizer
        self._reader = WorkUnitReader(data)
        self._filters = build_filters(data.filters)
        names = Counter(file.name for file in identity.inputs)
        self._inputs = {
            (file.name if names[file.name] == 1 else file.path, file.is_dev): place
            for place, file in enumerate(identity.inputs)
        }
        """Places of the input files by what documents name them."""

    def sign(self, split: WorkUnit) -> dict[str, Signatures]:
        """By deduplicator, the signatures of the documents in the split."""
        steps = {name: step for name, step in self._filters.items() if isinstance(step, Deduplicator)}
        signed: dict[str, list[NDArray[np.uint64]]] = {name: [] for name in steps}
        for item in self._reader.read(split):
            if isinstance(item, Document):
                for name, step in steps.items():
                    signed[name].append(step.sign(item.text))
        return {name: np.array(rows, np.uint64) for name, rows in signed.items() if rows}

    def prepare(self, task: WorkUnitTask) -> PreparedWorkUnit:
        """The shards of the split; of documents with one id all but the first are rejected."""
        split = task.split
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
                encoded["dev" if is_dev else "train"].append(row)
                by_input["dev" if is_dev else "train"][self._inputs[document.file, document.is_dev]] += 1
                lossy["dev" if is_dev else "train"] += loses
                if document.has_own_id:
                    if has_made_form(document.doc_id):
                        like_made["dev" if is_dev else "train"].append(
                            len(encoded["dev" if is_dev else "train"]) - 1
                        )
                    hashes.append(document.hashed)
        shards = tuple(
            self._shard(split, name, rows, lossy[name], by_input[name], like_made[name])
            for name, rows in encoded.items()
            if rows
        )
        return PreparedWorkUnit(shards, tuple(rejections), np.array(hashes, np.uint64))

    def _batches(self, task: WorkUnitTask, rejections: list[Rejection]) -> Iterator[list[Document]]:
        seen: set[int] = set()
        batch: list[Document] = []
        size = 0
        number = -1
        for item in self._reader.read(task.split):
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
        """What the first filter that drops the document has to say."""
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

    def _shard(
        self,
        split: WorkUnit,
        name: SplitName,
        rows: list[EncodedDocument],
        lossy_documents: int,
        by_input: Counter[int],
        like_made: list[int],
    ) -> tuple[ShardRecord, pa.Buffer]:
        metadata: dict[str, Any] = {
            "format_version": FORMAT_VERSION,
            "split": name,
            "index": split.index,
            "inputs": split.inputs(),
            "data": self._identity.data,
            "segmenter": self._identity.segmenter,
            "tokenizer_digest": self._identity.tokenizer_digest,
            "max_sentence_tokens": self._identity.max_sentence_tokens,
        }
        if like_made:
            metadata[OWN_IDS_LIKE_MADE] = like_made
        buffer = shard_bytes(rows, metadata)
        record = ShardRecord(
            file=shard_name(name, split.index),
            split=name,
            index=split.index,
            documents=len(rows),
            sentences=sum(len(row.sentence_lengths) for row in rows),
            tokens=sum(len(row.tokens) for row in rows),
            num_bytes=sum(row.num_bytes for row in rows),
            lossy_documents=lossy_documents,
            file_bytes=buffer.size,
            sha256=hashlib.sha256(buffer).hexdigest(),
            documents_by_input=dict(sorted(by_input.items())),
        )
        return record, buffer


def _rejected(document: Document, reason: str, detail: str) -> Rejection:
    return Rejection(document.file, document.position, reason, detail, document.doc_id)


def duplicated_hashes(hashes_of: list[NDArray[np.uint64]]) -> dict[int, frozenset[int]]:
    """Where the same id hash stands in several lists: list index -> hashes that an earlier list has too.

    Takes about 24 bytes a document while it runs.
    """
    everything = np.concatenate([np.zeros(0, np.uint64), *hashes_of])
    order = np.argsort(everything, kind="stable")
    repeated = order[1:][everything[order[1:]] == everything[order[:-1]]]
    owners = np.searchsorted(np.cumsum([len(hashes) for hashes in hashes_of]), repeated, side="right")
    found: dict[int, set[int]] = {}
    for owner, value in zip(owners.tolist(), everything[repeated].tolist(), strict=True):
        found.setdefault(owner, set()).add(value)
    return {owner: frozenset(values) for owner, values in sorted(found.items())}


def find_duplicates(
    filters: Mapping[str, Filter | Deduplicator], signed: Mapping[int, Mapping[str, Signatures]]
) -> dict[int, dict[str, frozenset[int]]]:
    """Which documents of each split repeat earlier ones, given each split's signatures by its index."""
    found: dict[int, dict[str, frozenset[int]]] = {index: {} for index in signed}
    for name, step in filters.items():
        parts = [(index, signed[index][name]) for index in sorted(signed) if name in signed[index]]
        if not isinstance(step, Deduplicator) or not parts:
            continue
        repeated = step.repeated(np.concatenate([signatures for _, signatures in parts]))
        ends = np.cumsum([len(signatures) for _, signatures in parts])
        for (index, _), of_split in zip(parts, np.split(repeated, ends[:-1]), strict=True):
            found[index][name] = frozenset(np.flatnonzero(of_split).tolist())
    return found
