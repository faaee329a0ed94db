"""The state of a folder of shards: what a rerun keeps, what it removes, and when the folder is complete.

A work unit is finished when `progress/INDEX.json` exists, which is written after its shards; the folder is finished
when `manifest.json` exists, which is written last. So a job can be killed at any moment.
"""

import dataclasses
import json
import re
from collections import Counter, defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from pydantic import BaseModel, model_validator

from pipeline.corpus import Rejection
from pipeline.corpus.documents import has_made_form, id_hash
from pipeline.errors import ShardError
from pipeline.lineage import MANIFEST_NAME, PLAN_NAME, identity_digest
from pipeline.output_files import RECORD_NAME, half_written, is_of_job
from pipeline.shards.format import OWN_IDS_LIKE_MADE, REJECTED
from pipeline.shards.manifest import PROGRESS, Identity, Manifest, ShardRecord
from pipeline.shards.rejections import parse_rejection, write_rejections
from pipeline.shards.store import ShardStore, store_tokenizer
from pipeline.shards.verification import damaged_shards
from pipeline.tokenization.tokenizer import Tokenizer

_SHARD_NAME = re.compile(r"(?:train|dev)-(\d{5,})\.arrow")
_WORK_UNIT_NAME = re.compile(rf"{PROGRESS}/(\d+)\.json")


class _Progress(BaseModel, extra="forbid"):
    """The content of a file of the progress folder."""

    shards: tuple[ShardRecord, ...]
    rejections: tuple[Rejection, ...]
    digest: str
    """Of both: what is missing in a damaged file would be missing in the shards, and nobody would see it."""

    @model_validator(mode="after")
    def _names_each_shard_once(self) -> Self:
        if len({shard.file for shard in self.shards}) < len(self.shards):
            raise ValueError("a shard is named twice")
        return self


@dataclass(frozen=True)
class FinishedWorkUnit:
    """A work unit whose shards are in the store."""

    shards: tuple[ShardRecord, ...]
    rejections: tuple[Rejection, ...]
    id_hashes: NDArray[np.uint64] | None = None
    """64-bit hashes of the documents' own ids (made ids may repeat); None: they are read from the shards."""

    def to_json(self) -> bytes:
        """The content of its file in the progress folder."""
        return json.dumps({**self._tree(), "digest": identity_digest(self._tree())}).encode()

    @classmethod
    def from_json(cls, text: bytes) -> "FinishedWorkUnit":
        """The inverse of `to_json`, without the hashes. Raises `ValueError` for anything else."""
        read = _Progress.model_validate_json(text)
        found = cls(read.shards, read.rejections)
        if identity_digest(found._tree()) != read.digest:
            raise ValueError("its content is not that of its digest")
        return found

    def _tree(self) -> dict[str, Any]:
        return {
            "shards": [shard.model_dump(mode="json") for shard in self.shards],
            "rejections": [dataclasses.asdict(rejection) for rejection in self.rejections],
        }


FinishedWorkUnits = dict[int, FinishedWorkUnit]
"""Finished work units by their index in the corpus."""


class ShardOutput:
    """The shards of one identity, in one store."""

    def __init__(self, store: ShardStore) -> None:
        self.store = store

    def manifest(self) -> Manifest | None:
        """The manifest of finished shards; None where there is none. Raises `ShardError` for a damaged one."""
        content = self.store.read(MANIFEST_NAME)
        return None if content is None else Manifest.parse(content, f"{self.store.url}/{MANIFEST_NAME}")

    def open(self, identity: Identity, num_work_units: int, overwrite: bool) -> FinishedWorkUnits:
        """The work units that are finished, intact and of this identity; all other files of the job are removed.

        Raises `ShardError` where there are shards of another identity, unless they may be overwritten.
        """
        names = self.store.names()
        self.store.remove(_half_written(names))
        there, found = self._found(names, num_work_units, overwrite)
        differences = there.differences(identity) if there is not None else []
        if differences and not overwrite:
            raise ShardError(
                f"output {self.store.url!r} holds shards of something else ({'; '.join(differences)}); choose "
                f"another output, or set prepare.overwrite=true to replace them"
            )
        if there is None or differences:
            self._discard(names, is_known=there is not None)
            return {}
        records = [record for work_unit in found.values() for record in work_unit.shards]
        damaged = {record.index for record in damaged_shards(records, self.store.sha256)}
        kept = {index: work_unit for index, work_unit in found.items() if index not in damaged}
        if len(kept) < num_work_units and MANIFEST_NAME in names:
            for index, work_unit in kept.items():
                self.write_work_unit(index, work_unit)
            self.store.write(PLAN_NAME, identity.model_dump_json().encode())
            self.store.remove([MANIFEST_NAME])
        elif MANIFEST_NAME in names:
            self.store.remove(_of_progress(names))  # where the job was killed before it could
        known = {record.file for work_unit in kept.values() for record in work_unit.shards}
        stale = [
            name
            for name in names
            if name not in known and (match := _SHARD_NAME.fullmatch(name)) and int(match[1]) < num_work_units
        ]
        self.store.remove(stale)
        return kept

    def begin(self, identity: Identity, tokenizer: Tokenizer, trained_on: str | None) -> None:
        """Write the tokenizer with the digest of its training data, and the plan."""
        store_tokenizer(self.store, tokenizer, trained_on)
        self.store.write(PLAN_NAME, identity.model_dump_json().encode())

    def write_work_unit(
        self, index: int, work_unit: FinishedWorkUnit, replaced: FinishedWorkUnit | None = None
    ) -> None:
        """Record that a work unit is finished, and remove shards of it from an earlier attempt that it no longer
        has."""
        self.store.write(f"{PROGRESS}/{index:05d}.json", work_unit.to_json())
        if replaced is not None:
            files = {record.file for record in work_unit.shards}
            self.store.remove([record.file for record in replaced.shards if record.file not in files])

    def id_hashes(self, work_unit: FinishedWorkUnit) -> NDArray[np.uint64]:
        """Hashes of the own ids of the work unit's documents, read from its shards if they are not in memory."""
        if work_unit.id_hashes is not None:
            return work_unit.id_hashes
        hashes: list[int] = []
        for record in work_unit.shards:
            shard = pa.ipc.open_file(self.store.read(record.file))
            own = set(json.loads(shard.schema.metadata[b"sllm"]).get(OWN_IDS_LIKE_MADE, ()))
            ids = enumerate(shard.get_batch(0)["doc_id"].to_pylist())
            hashes += [id_hash(one) for row, one in ids if row in own or not has_made_form(one)]
        return np.array(hashes, np.uint64)

    def write_rejections(self, finished: FinishedWorkUnits) -> None:
        """Write `rejected.jsonl`."""
        write_rejections(self.store, ((index, finished[index].rejections) for index in sorted(finished)))

    def finish(self, identity: Identity, finished: FinishedWorkUnits, tokenizer: Tokenizer) -> Manifest:
        """Write the manifest, and remove the progress."""
        records = [record for work_unit in finished.values() for record in work_unit.shards]
        rejections = [rejection for work_unit in finished.values() for rejection in work_unit.rejections]
        rejected: Counter[str] = Counter()
        for rejection in rejections:
            if not rejection.is_filtered:
                rejected[rejection.reason] += rejection.num_lines
        filtered = Counter(rejection.reason for rejection in rejections if rejection.is_filtered)
        manifest = Manifest.of(
            identity, len(finished), records, rejected, filtered, (tokenizer.bos_id, tokenizer.eos_id)
        )
        self.store.write(MANIFEST_NAME, (manifest.model_dump_json(indent=1) + "\n").encode())
        names = self.store.names()
        self.store.remove([*_of_progress(names), *_half_written(names)])
        return manifest

    def _found(
        self, names: list[str], num_work_units: int, overwrite: bool
    ) -> tuple[Identity | None, FinishedWorkUnits]:
        """Identity and finished work units of the shards in the store; neither where they are damaged.

        Raises `ShardError` for damaged ones, unless they may be overwritten.
        """
        try:
            manifest = self.manifest()
            if manifest is not None:
                return manifest.identity, self._work_units_of(manifest, num_work_units)
            if PLAN_NAME in names:
                identity = Identity.model_validate_json(self.store.read(PLAN_NAME) or b"")
                return identity, self._work_units_in_progress(names, num_work_units)
        except (ShardError, ValueError) as error:
            if not overwrite:
                raise ShardError(
                    f"output {self.store.url!r} holds shards that cannot be continued ({error}); "
                    f"set prepare.overwrite=true to make them anew"
                ) from error
        return None, {}

    def _work_units_in_progress(self, names: list[str], num_work_units: int) -> FinishedWorkUnits:
        work_units = {
            int(match[1]): FinishedWorkUnit.from_json(self.store.read(name) or b"")
            for name in names
            if (match := _WORK_UNIT_NAME.fullmatch(name)) and int(match[1]) < num_work_units
        }
        for index, work_unit in work_units.items():
            if any(record.index != index for record in work_unit.shards):
                raise ValueError(f"the progress of work unit {index} names shards of another work unit")
        return work_units

    def _work_units_of(self, manifest: Manifest, num_work_units: int) -> FinishedWorkUnits:
        if manifest.num_work_units != num_work_units:
            return {}  # so all are made anew, unless the shards have another identity
        shards: dict[int, list[ShardRecord]] = {index: [] for index in range(num_work_units)}
        for record in manifest.shards:
            shards[record.index].append(record)
        rejections: dict[int, list[Rejection]] = defaultdict(list)
        for line in self.store.lines(REJECTED):
            index, rejection = parse_rejection(line)
            rejections[index].append(rejection)
        return {
            index: FinishedWorkUnit(tuple(records), tuple(rejections[index]))
            for index, records in shards.items()
        }

    def _discard(self, names: list[str], is_known: bool) -> None:
        """Remove shards and progress. Raises `ShardError` unless manifest, plan or record show that a job of ours wrote
        them."""
        shards = [name for name in names if _SHARD_NAME.fullmatch(name)]
        if shards and not is_known and not {MANIFEST_NAME, PLAN_NAME, RECORD_NAME} & set(names):
            raise ShardError(
                f"output {self.store.url!r} holds {shards[0]} without a {MANIFEST_NAME}: no job of ours wrote it; "
                "choose another output"
            )
        # The manifest and the plan are removed last: while they exist, the other files are known as ours.
        self.store.remove([REJECTED, *shards, *(name for name in _of_progress(names) if name != PLAN_NAME)])
        self.store.remove([MANIFEST_NAME, PLAN_NAME])


def _half_written(names: Iterable[str]) -> list[str]:
    """Files that workers which were killed had begun to write."""
    return [name for name in names if is_of_job(half_written(name) or "", "shards")]


def _of_progress(names: Iterable[str]) -> list[str]:
    """Files that a rerun would continue from; with a manifest they are not needed."""
    return [name for name in names if name == PLAN_NAME or _WORK_UNIT_NAME.fullmatch(name)]
