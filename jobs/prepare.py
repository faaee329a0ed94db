"""`sllm prepare`: a corpus becomes sentence shards, on Ray or in this process."""

import dataclasses
import functools
import json
import re
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn, TransferSpeedColumn

import segmenters
from infra.local_tasks import LocalWorkers
from infra.storage import TEMPORARY_SUFFIX, Folder
from pipeline.config import Config
from pipeline.corpus import (
    PYTHON_DOCS,
    Document,
    Rejection,
    Source,
    Split,
    SplitReader,
    Survey,
    find_sources,
    plan_splits,
    python_docs,
    survey,
)
from pipeline.corpus.splits import choose_split_bytes, id_hash, identity_digest, is_dev_document
from pipeline.errors import ConfigError, CorpusError, ShardError
from pipeline.manifest import MANIFEST, PROGRESS, Identity, Manifest, ShardRecord
from pipeline.preparation import SplitPreparer, duplicated_hashes, make_identity, reading_options
from pipeline.shards import TOKENIZER_FOLDER
from pipeline.tokens import Tokenizer

PLAN = f"{PROGRESS}/plan.json"
REJECTED = "rejected.jsonl"
TRAINED_ON = "trained_on.sha256"
PYTHON_DOCS_FILE = "corpus/python-docs.jsonl"
_SHARD_NAME = re.compile(rf"(train|dev)-\d{{5,}}\.arrow(\..*{re.escape(TEMPORARY_SUFFIX)})?")


@dataclass(frozen=True)
class FinishedSplit:
    """A split of which the shards lie in the output folder."""

    shards: tuple[ShardRecord, ...]
    rejections: tuple[Rejection, ...]
    id_hashes: NDArray[np.uint64] | None = None
    """None: to be read from the shards."""

    def to_json(self) -> bytes:
        """For the progress folder."""
        return json.dumps(
            {
                "shards": [shard.model_dump() for shard in self.shards],
                "rejections": [dataclasses.asdict(rejection) for rejection in self.rejections],
            }
        ).encode()

    @classmethod
    def from_json(cls, text: bytes) -> "FinishedSplit":
        """The inverse of `to_json`."""
        tree = json.loads(text)
        return cls(
            tuple(ShardRecord.model_validate(shard) for shard in tree["shards"]),
            tuple(Rejection(**rejection) for rejection in tree["rejections"]),
        )


class PrepareWorker:
    """What a worker does; it holds one tokenizer and one segmenter for life."""

    def __init__(self, config: Config, output: str) -> None:
        self._config = config
        self._output = Folder(output)
        self._preparer: SplitPreparer | None = None

    def survey(self, source: Source, split_bytes: int) -> Survey:
        """Look through one file."""
        return survey(source, self._config.data, split_bytes)

    def prepare(self, split: Split, identity: Identity, dropped: dict[int, frozenset[int]]) -> FinishedSplit:
        """Write the shards of one split."""
        if self._preparer is None:
            self._preparer = self._make_preparer(identity)
        prepared = self._preparer.prepare(split, dropped.get(split.index, frozenset()))
        for record, buffer in prepared.shards:
            self._output.write(record.file, buffer)
        return FinishedSplit(
            tuple(record for record, _ in prepared.shards), prepared.rejections, prepared.id_hashes
        )

    def id_hashes(self, record: ShardRecord) -> NDArray[np.uint64]:
        """Hashes of the document ids of a finished shard."""
        content = self._output.read(record.file)
        assert content is not None, "a finished shard was verified"
        ids = pa.ipc.open_file(content).get_batch(0)["doc_id"].to_pylist()
        return np.array([id_hash(doc_id) for doc_id in ids], np.uint64)

    def is_intact(self, record: ShardRecord) -> bool:
        """Whether a shard lies there as it was written."""
        return self._output.sha256(record.file) == record.sha256

    def _make_preparer(self, identity: Identity) -> SplitPreparer:
        tokenizer = _stored_tokenizer(self._output)
        segmenter = segmenters.load(self._config.segmenter.name, **self._config.segmenter.options)
        if tokenizer is None or tokenizer.digest != identity.tokenizer_digest:
            raise ShardError(f"the tokenizer in {self._output.url!r} was replaced while work went on; run again")
        if segmenter.fingerprint() != identity.segmenter:
            raise ConfigError(
                f"segmenter {self._config.segmenter.name!r} is another one on this worker "
                f"({segmenter.fingerprint()}); install the same versions on all machines"
            )
        return SplitPreparer(self._config.data, identity, segmenter, tokenizer)


class Workers(Protocol):
    """Carries work: `LocalWorkers` or `RayWorkers`."""

    def map(self, method: str, items: Iterable[Any], *shared: Any) -> Iterator[tuple[Any, Any]]:
        """Results as they come: (item, result)."""
        ...

    def close(self) -> None:
        """Let go of what was started."""
        ...


def prepare(config: Config, output: str) -> Manifest:
    """Make, or finish, the shards of this configuration in the folder `output`, and give their manifest.

    Raises `CorpusError` for input that is missing, damaged or mostly rejected, `ShardError` where `output`
    holds shards of something else and `prepare.overwrite` is not set.
    """
    folder = Folder(output)
    segmenter = segmenters.load(config.segmenter.name, **config.segmenter.options)
    sources = find_sources(_with_python_docs(config, folder).data)
    split_bytes = config.prepare.split_bytes or choose_split_bytes(sources)
    workers = _workers(config, output)
    try:
        surveys = _survey(workers, sources, split_bytes)
        splits = plan_splits(surveys, config.data, split_bytes)
        tokenizer, tokenizer_files = _tokenizer(config, folder, surveys, splits)
        identity = make_identity(config, surveys, split_bytes, segmenter, tokenizer.digest)
        finished = _resume(folder, identity, len(splits), config.prepare.overwrite, workers)
        if len(finished) == len(splits) and folder.read(MANIFEST) is not None:
            _forget_progress(folder)
            return _read_manifest(folder)
        for name, text in tokenizer_files.items():
            folder.write(f"{TOKENIZER_FOLDER}/{name}", text.encode())
        folder.write(PLAN, identity.model_dump_json().encode())
        _prepare_splits(workers, folder, splits, identity, finished)
        return _finish(config, folder, identity, len(splits), finished)
    finally:
        workers.close()


def _workers(config: Config, output: str) -> Workers:
    make_worker = functools.partial(PrepareWorker, config, output)
    if config.launcher == "local":
        return LocalWorkers(make_worker)
    from infra.ray_tasks import RayWorkers, connect

    connect(config.ray.address, config.prepare.num_workers)
    return RayWorkers(make_worker, config.prepare.num_workers)


def _with_python_docs(config: Config, folder: Folder) -> Config:
    """Write the documentation corpus into the output, so that all workers read the same, and name it instead."""
    data = config.data
    if PYTHON_DOCS not in (*data.inputs, *data.dev_inputs):
        return config
    rows = (json.dumps({"id": name, "text": text}) for name, text in python_docs(data.max_bytes))
    folder.write(PYTHON_DOCS_FILE, "".join(row + "\n" for row in rows).encode())
    path = f"{folder.url.rstrip('/')}/{PYTHON_DOCS_FILE}"
    named = {
        key: tuple(path if given == PYTHON_DOCS else given for given in getattr(data, key))
        for key in ("inputs", "dev_inputs")
    }
    return config.model_copy(update={"data": data.model_copy(update=named)})


def _survey(workers: Workers, sources: list[Source], split_bytes: int) -> list[Survey]:
    found = dict(workers.map("survey", sources, split_bytes))
    return [found[source] for source in sources]


def _stored_tokenizer(folder: Folder) -> Tokenizer | None:
    files = {
        name: folder.read(f"{TOKENIZER_FOLDER}/{name}") for name in ("tokenizer.json", "tokenizer_config.json")
    }
    present = {name: content for name, content in files.items() if content is not None}
    return Tokenizer.from_files(present) if len(present) == len(files) else None


def _tokenizer(
    config: Config, folder: Folder, surveys: list[Survey], splits: list[Split]
) -> tuple[Tokenizer, dict[str, str]]:
    """The one that the configuration names; else one trained on the train documents, or that of a run before.

    With it the files to be written into its folder.
    """
    if config.tokenizer.path is not None:
        tokenizer = Tokenizer.load(config.tokenizer.path)
        return tokenizer, tokenizer.files()
    made_from = identity_digest(
        [
            [[survey.source.name, survey.sha256] for survey in surveys],
            reading_options(config.data),
            config.tokenizer.model_dump(),
        ]
    )
    stored = _stored_tokenizer(folder)
    if stored is None or folder.read(f"{TOKENIZER_FOLDER}/{TRAINED_ON}") != made_from.encode():
        stored = Tokenizer.train(_training_texts(config, splits), config.tokenizer.vocab_size)
    return stored, {**stored.files(), TRAINED_ON: made_from}


def _training_texts(config: Config, splits: list[Split]) -> Iterator[str]:
    reader = SplitReader(config.data)
    left = config.tokenizer.train_bytes
    for split in splits:
        for document in reader.read(split):
            if not isinstance(document, Document) or document.is_dev:
                continue
            if is_dev_document(id_hash(document.doc_id), config.data.dev_fraction):
                continue
            yield document.text
            left -= document.num_bytes
            if left <= 0:
                return


def _read_manifest(folder: Folder) -> Manifest:
    content = folder.read(MANIFEST)
    assert content is not None
    return Manifest.parse(content, f"{folder.url}/{MANIFEST}")


def _resume(
    folder: Folder, identity: Identity, num_splits: int, overwrite: bool, workers: Workers
) -> dict[int, FinishedSplit]:
    """What is finished and intact in the folder; it is cleared where that is of something else, and may be."""
    names = folder.names()
    found: dict[int, FinishedSplit] = {}
    there: Identity | None = None
    try:
        if MANIFEST in names:
            manifest = _read_manifest(folder)
            there, found = manifest.identity, _from_manifest(manifest, folder)
        elif PLAN in names:
            there = Identity.model_validate_json(folder.read(PLAN) or b"")
            for name in names:
                if re.fullmatch(rf"{PROGRESS}/\d+\.json", name):
                    found[int(name.split("/")[1].removesuffix(".json"))] = FinishedSplit.from_json(
                        folder.read(name) or b""
                    )
    except (ShardError, ValueError) as error:
        if not overwrite:
            raise ShardError(
                f"output {folder.url!r} holds shards that cannot be gone on with ({error}); "
                f"set prepare.overwrite=true to make them anew"
            ) from error
    ours = [name for name in names if _SHARD_NAME.fullmatch(name) or name.startswith(f"{PROGRESS}/")]
    differences = there.differences(identity) if there is not None else []
    if differences and not overwrite:
        raise ShardError(
            f"output {folder.url!r} holds shards of something else ({'; '.join(differences)}); choose another "
            f"output, or set prepare.overwrite=true to replace them"
        )
    if there is None or differences:
        # The manifest goes first: without it nothing that is left counts.
        folder.remove([MANIFEST, REJECTED, *ours])
        return {}
    records = [record for split in found.values() for record in split.shards]
    damaged = {record.index for record, intact in workers.map("is_intact", records) if not intact}
    kept = {index: split for index, split in found.items() if index not in damaged and index < num_splits}
    if damaged and MANIFEST in names:
        for index, split in kept.items():
            folder.write(_progress_name(index), split.to_json())
        folder.write(PLAN, identity.model_dump_json().encode())
        folder.remove([MANIFEST])
    known = {record.file for split in kept.values() for record in split.shards}
    folder.remove([name for name in ours if _SHARD_NAME.fullmatch(name) and name not in known])
    return kept


def _progress_name(index: int) -> str:
    return f"{PROGRESS}/{index:05d}.json"


def _forget_progress(folder: Folder) -> None:
    folder.remove([name for name in folder.names() if name.startswith(f"{PROGRESS}/")])


def _from_manifest(manifest: Manifest, folder: Folder) -> dict[int, FinishedSplit]:
    shards: dict[int, list[ShardRecord]] = {index: [] for index in range(manifest.num_splits)}
    for record in manifest.shards:
        shards[record.index].append(record)
    rejections: dict[int, list[Rejection]] = {}
    for line in (folder.read(REJECTED) or b"").splitlines():
        row = json.loads(line)
        rejections.setdefault(row.pop("split_index"), []).append(Rejection(**row))
    return {
        index: FinishedSplit(tuple(records), tuple(rejections.get(index, ())))
        for index, records in shards.items()
    }


def _prepare_splits(
    workers: Workers, folder: Folder, splits: list[Split], identity: Identity, finished: dict[int, FinishedSplit]
) -> None:
    """Do what is missing in `finished`, then again, without them, the splits with ids of earlier ones."""
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        DownloadColumn(),
        TransferSpeedColumn(),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=Console(stderr=True)) as progress:
        task = progress.add_task("prepare", total=sum(split.num_bytes for split in splits))

        def work(todo: list[Split], dropped: dict[int, frozenset[int]]) -> None:
            for split, result in workers.map("prepare", todo, identity, dropped):
                finished[split.index] = result
                folder.write(_progress_name(split.index), result.to_json())
                progress.advance(task, split.num_bytes)

        for index in finished:
            progress.advance(task, splits[index].num_bytes)
        work([split for split in splits if split.index not in finished], {})
        _fill_hashes(workers, finished)
        hashes = [finished[index].id_hashes for index in range(len(splits))]
        dropped = duplicated_hashes([value for value in hashes if value is not None])
        progress.reset(task, total=sum(splits[index].num_bytes for index in dropped) or None)
        work([splits[index] for index in dropped], dropped)


def _fill_hashes(workers: Workers, finished: dict[int, FinishedSplit]) -> None:
    missing = [record for split in finished.values() if split.id_hashes is None for record in split.shards]
    hashes: dict[int, list[NDArray[np.uint64]]] = {}
    for record, values in workers.map("id_hashes", missing):
        hashes.setdefault(record.index, []).append(values)
    for index, split in finished.items():
        if split.id_hashes is None:
            joined = np.concatenate([np.zeros(0, np.uint64), *hashes.get(index, ())])
            finished[index] = dataclasses.replace(split, id_hashes=joined)


def _finish(
    config: Config, folder: Folder, identity: Identity, num_splits: int, finished: dict[int, FinishedSplit]
) -> Manifest:
    """Write `rejected.jsonl` and, where not too much was rejected, the manifest."""
    records = [record for index in range(num_splits) for record in finished[index].shards]
    rows = [
        {"split_index": index, **dataclasses.asdict(rejection)}
        for index in range(num_splits)
        for rejection in finished[index].rejections
    ]
    folder.write(REJECTED, "".join(json.dumps(row) + "\n" for row in rows).encode())
    num_documents = sum(record.documents for record in records)
    allowed = config.data.max_rejected_fraction
    if len(rows) > allowed * (len(rows) + num_documents):
        first = "; ".join(
            f"{row['file']}, {row['position']}: {row['reason']}{row['detail'] and ' (' + row['detail'] + ')'}"
            for row in rows[:3]
        )
        raise CorpusError(
            f"{len(rows)} of {len(rows) + num_documents} documents were rejected, more than "
            f"data.max_rejected_fraction={allowed} allows: {first}; all stand in {folder.url}/{REJECTED}"
        )
    if num_documents == 0:
        raise CorpusError(f"there is no document in {', '.join(config.data.inputs + config.data.dev_inputs)}")
    manifest = Manifest.of(identity, num_splits, records, Counter(row["reason"] for row in rows))
    folder.write(MANIFEST, (manifest.model_dump_json(indent=1) + "\n").encode())
    _forget_progress(folder)
    return manifest
