"""The folder that shards are written to: what is finished in it, what may be gone on with, and the end of it.

A split counts as finished when `progress/INDEX.json` stands there, written after its shards; the folder as a
whole when `manifest.json` does, written after everything else. So whenever a job is killed, what counts is whole.
"""

import dataclasses
import json
import re
from collections import Counter, defaultdict
from collections.abc import Collection, Iterable
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from pydantic import BaseModel
from pydantic_core import from_json

from infra.storage import TEMPORARY_SUFFIX, Folder
from pipeline.corpus import Rejection
from pipeline.corpus.work_units import has_made_form, id_hash
from pipeline.errors import ConfigError, ShardError
from pipeline.output_files import RECORD_NAME, is_of_job
from pipeline.shards.format import OWN_IDS_LIKE_MADE, TOKENIZER_FOLDER
from pipeline.shards.manifest import MANIFEST, PROGRESS, Identity, Manifest, ShardRecord
from pipeline.tokenization.tokenizer import Tokenizer

PLAN = f"{PROGRESS}/plan.json"
REJECTED = "rejected.jsonl"
RejectionKind = tuple[str, bool]
"""A reason, or the name of a filter; and whether it is a filter's."""
_TRAINED_ON = f"{TOKENIZER_FOLDER}/trained_on.sha256"
_TOKENIZER_CONFIG = f"{TOKENIZER_FOLDER}/tokenizer_config.json"
_SHARD_NAME = re.compile(r"(train|dev)-\d{5,}\.arrow")
_SPLIT_NAME = re.compile(rf"{PROGRESS}/(\d+)\.json")


class _Progress(BaseModel, extra="forbid"):
    """The content of a file of the progress folder."""

    shards: tuple[ShardRecord, ...]
    rejections: tuple[Rejection, ...]


class _SetAside(BaseModel, extra="forbid"):
    """The content of a line of `rejected.jsonl`."""

    work_unit_index: int
    rejection: Rejection


@dataclass(frozen=True)
class FinishedWorkUnit:
    """A split of which the shards lie in the output folder."""

    shards: tuple[ShardRecord, ...]
    rejections: tuple[Rejection, ...]
    id_hashes: NDArray[np.uint64] | None = None
    """Of the documents' own ids; None: to be read from the shards."""

    def to_json(self) -> bytes:
        """For the progress folder."""
        shards = [shard.model_dump() for shard in self.shards]
        rejections = [dataclasses.asdict(rejection) for rejection in self.rejections]
        return json.dumps({"shards": shards, "rejections": rejections}).encode()

    @classmethod
    def from_json(cls, text: bytes) -> "FinishedWorkUnit":
        """The inverse of `to_json`, without the hashes. Raises `ValueError` for anything else."""
        read = _Progress.model_validate_json(text)
        return cls(read.shards, read.rejections)


class ShardOutput:
    """One output folder, for the shards of one identity."""

    def __init__(self, url: str) -> None:
        self.folder = Folder(url)

    def manifest(self) -> Manifest | None:
        """The manifest of finished shards, where there is one."""
        content = self.folder.read(MANIFEST)
        return None if content is None else Manifest.parse(content, f"{self.folder.url}/{MANIFEST}")

    def open(self, identity: Identity, num_work_units: int, overwrite: bool) -> dict[int, FinishedWorkUnit]:
        """The splits that are finished, intact and of this identity; all else is cleared away.

        Raises `ShardError` where there are shards of another identity, unless they may be overwritten.
        """
        names = self.folder.names()
        self.folder.remove([name for name in names if _is_half_written(name)])
        shards = [name for name in names if _SHARD_NAME.fullmatch(name)]
        there: Identity | None = None
        found: dict[int, FinishedWorkUnit] = {}
        try:
            there, found = self._found(names, num_work_units)
        except (ShardError, ValueError) as error:
            if not overwrite:
                raise ShardError(
                    f"output {self.folder.url!r} holds shards that cannot be gone on with ({error}); "
                    f"set prepare.overwrite=true to make them anew"
                ) from error
        differences = there.differences(identity) if there is not None else []
        if differences and not overwrite:
            raise ShardError(
                f"output {self.folder.url!r} holds shards of something else ({'; '.join(differences)}); choose "
                f"another output, or set prepare.overwrite=true to replace them"
            )
        if there is None or differences:
            if there is None and shards and not self._is_ours(names):
                raise ShardError(
                    f"output {self.folder.url!r} holds {shards[0]} without a {MANIFEST}: no job of ours wrote it; "
                    "choose another output"
                )
            # The manifest and the plan go last: as long as they are there, what is left is known as ours.
            self.folder.remove([REJECTED, *shards, *(name for name in _of_progress(names) if name != PLAN)])
            self.folder.remove([MANIFEST, PLAN])
            return {}
        kept = {index: split for index, split in found.items() if self._is_intact(split)}
        if len(kept) < num_work_units and MANIFEST in names:
            for index, split in kept.items():
                self.write_work_unit(index, split)
            self.folder.write(PLAN, identity.model_dump_json().encode())
            self.folder.remove([MANIFEST])
        elif MANIFEST in names:
            self.folder.remove(_of_progress(names))  # where it was killed before it could
        known = {record.file for split in kept.values() for record in split.shards}
        stale = (
            name for name in shards if name not in known and int(name.partition("-")[2][:-6]) < num_work_units
        )
        self.folder.remove(list(stale))
        return kept

    def begin(self, identity: Identity, tokenizer: Tokenizer, trained_on: str | None) -> None:
        """Write the tokenizer, with the digest of what it was trained on, and the plan."""
        for name, text in tokenizer.files().items():
            self.folder.write(f"{TOKENIZER_FOLDER}/{name}", text.encode())
        if trained_on is not None:
            self.folder.write(_TRAINED_ON, trained_on.encode())
        self.folder.write(PLAN, identity.model_dump_json().encode())

    def tokenizer(self, trained_on: str | None = None) -> Tokenizer | None:
        """The tokenizer in the folder; given `trained_on`, only if it was trained on just that."""
        if trained_on is not None and self.folder.read(_TRAINED_ON) != trained_on.encode():
            return None
        names = ("tokenizer.json", "tokenizer_config.json")
        files = {name: self.folder.read(f"{TOKENIZER_FOLDER}/{name}") for name in names}
        present = {name: content for name, content in files.items() if content is not None}
        try:
            return Tokenizer.from_files(present) if len(present) == len(names) else None
        except (ValueError, ConfigError):
            return None  # damaged: the same as missing

    def write_work_unit(self, index: int, split: FinishedWorkUnit) -> None:
        """Record that the shards of a split are there."""
        self.folder.write(f"{PROGRESS}/{index:05d}.json", split.to_json())

    def id_hashes(self, split: FinishedWorkUnit) -> NDArray[np.uint64]:
        """Hashes of the own ids of the split's documents, read from its shards where it does not hold them."""
        if split.id_hashes is not None:
            return split.id_hashes
        hashes: list[int] = []
        for record in split.shards:
            shard = pa.ipc.open_file(self.folder.read(record.file))
            own = set(json.loads(shard.schema.metadata[b"sllm"]).get(OWN_IDS_LIKE_MADE, ()))
            ids = enumerate(shard.get_batch(0)["doc_id"].to_pylist())
            hashes += [id_hash(one) for row, one in ids if row in own or not has_made_form(one)]
        return np.array(hashes, np.uint64)

    def write_rejected(self, splits: Iterable[tuple[int, FinishedWorkUnit]]) -> None:
        """Write `rejected.jsonl`."""
        rows = (
            json.dumps({"work_unit_index": index, **dataclasses.asdict(rejection)}) + "\n"
            for index, split in splits
            for rejection in split.rejections
        )
        self.folder.write(REJECTED, "".join(rows).encode())

    def first_rejections(self, kinds: Collection[RejectionKind]) -> dict[RejectionKind, Rejection]:
        """The first of each kind, as far as `rejected.jsonl` has them; it may have been damaged or removed since."""
        found: dict[RejectionKind, Rejection] = {}
        if not kinds:
            return found
        for line in self.folder.lines(REJECTED):
            try:
                row = json.loads(line)
                row.pop("work_unit_index")
                rejection = Rejection(**row)
            except (ValueError, TypeError, KeyError, AttributeError):
                continue
            kind = (rejection.reason, rejection.is_filtered)
            if kind in kinds:
                found.setdefault(kind, rejection)
            if len(found) == len(kinds):
                break
        return found

    def check_bos_eos(self, tokenizer: Tokenizer) -> None:
        """Raise `ShardError` where the folder holds shards of this tokenizer with another BOS or EOS."""
        if self.folder.read(_TOKENIZER_CONFIG) in (None, tokenizer.files()["tokenizer_config.json"].encode()):
            return
        stored = self.tokenizer()
        if stored is None or stored.digest != tokenizer.digest:
            return  # other shards altogether, which is found elsewhere
        there = (stored.named_bos_id, stored.named_eos_id)
        here = (tokenizer.named_bos_id, tokenizer.named_eos_id)
        if there != here:
            raise ShardError(
                f"output {self.folder.url!r} holds shards with BOS and EOS of ids {there[0]} and {there[1]}; the "
                f"tokenizer now has {here[0]} and {here[1]}: choose another output, or replace them with --force"
            )

    def finish(
        self, identity: Identity, finished: dict[int, FinishedWorkUnit], tokenizer: Tokenizer
    ) -> Manifest:
        """Write the manifest, and forget the progress."""
        records = [record for split in finished.values() for record in split.shards]
        set_aside = [rejection for split in finished.values() for rejection in split.rejections]
        rejected: Counter[str] = Counter()
        for rejection in set_aside:
            if not rejection.is_filtered:
                rejected[rejection.reason] += rejection.num_lines
        filtered = Counter(rejection.reason for rejection in set_aside if rejection.is_filtered)
        manifest = Manifest.of(
            identity, len(finished), records, rejected, filtered, (tokenizer.bos_id, tokenizer.eos_id)
        )
        self.folder.write(MANIFEST, (manifest.model_dump_json(indent=1) + "\n").encode())
        self.folder.remove(_of_progress(self.folder.names()))
        return manifest

    def _found(
        self, names: list[str], num_work_units: int
    ) -> tuple[Identity | None, dict[int, FinishedWorkUnit]]:
        manifest = self.manifest()
        if manifest is not None:
            return manifest.identity, self._work_units_of(manifest, num_work_units)
        if PLAN not in names:
            return None, {}
        splits = {
            int(match[1]): FinishedWorkUnit.from_json(self.folder.read(name) or b"")
            for name in names
            if (match := _SPLIT_NAME.fullmatch(name)) and int(match[1]) < num_work_units
        }
        for index, split in splits.items():
            if any(record.index != index for record in split.shards):
                raise ValueError(f"the progress of split {index} names shards of another split")
        return Identity.model_validate_json(self.folder.read(PLAN) or b""), splits

    def _work_units_of(self, manifest: Manifest, num_work_units: int) -> dict[int, FinishedWorkUnit]:
        if manifest.num_work_units != num_work_units:
            return {}  # so all are made anew, if the shards are not of something else anyway
        shards: dict[int, list[ShardRecord]] = {index: [] for index in range(num_work_units)}
        for record in manifest.shards:
            shards[record.index].append(record)
        rejections: dict[int, list[Rejection]] = defaultdict(list)
        for line in (self.folder.read(REJECTED) or b"").splitlines():
            row = from_json(line)
            if not isinstance(row, dict):
                raise ValueError(f"a line of {REJECTED} is no rejection")
            work_unit_index = row.pop("work_unit_index", row.pop("split_index", None))  # older name
            read = _SetAside.model_validate({"work_unit_index": work_unit_index, "rejection": row})
            rejections[read.work_unit_index].append(read.rejection)
        return {
            index: FinishedWorkUnit(tuple(records), tuple(rejections[index]))
            for index, records in shards.items()
        }

    def _is_ours(self, names: list[str]) -> bool:
        """Whether a job began here: then shards without a manifest are what it left."""
        return MANIFEST in names or PLAN in names or RECORD_NAME in names

    def _is_intact(self, split: FinishedWorkUnit) -> bool:
        return all(self.folder.sha256(record.file) == record.sha256 for record in split.shards)


def _of_progress(names: Iterable[str]) -> list[str]:
    """What a rerun would go on from; beside a manifest there is no need of it."""
    return [name for name in names if name == PLAN or _SPLIT_NAME.fullmatch(name)]


def _is_half_written(name: str) -> bool:
    """Whether a process of ours died while it wrote this."""
    whole, _, process = name.removesuffix(TEMPORARY_SUFFIX).rpartition(".")
    return name.endswith(TEMPORARY_SUFFIX) and process.isdecimal() and is_of_job(whole, "shards")
