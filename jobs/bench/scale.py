"""`sllm bench scale`: what the parts that run in one process cost per work unit, and per document of training.

No text is read: the driver of `prepare` gets made-up work units and results, the scheduler hands out work that does
nothing, and the stream plans documents of made-up lengths. So memory and time per item can be measured for corpora that
no machine here holds.
"""

import hashlib
import multiprocessing
import resource
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import psutil

import segmenters
from infra.cluster.connection import connect
from pipeline.config import Config, RayConfig, StreamConfig
from pipeline.corpus.source import Piece, Source, Survey
from pipeline.lineage import MANIFEST_NAME
from pipeline.shards.manifest import Manifest, ShardRecord, shard_name
from pipeline.shards.materials import Materials
from pipeline.shards.output import FinishedWorkUnit
from pipeline.shards.prepare import prepare
from pipeline.shards.worker import Worker, WorkUnitTask
from pipeline.stream.order import Corpus, Stream
from pipeline.stream.windows import Int64, SentenceWindows
from pipeline.tokenization.tokenizer import Tokenizer

Part = Literal["driver", "manifest", "scheduler", "stream"]

UNIT_BYTES = 64 * 2**20
"""Text of a work unit: the largest default of `prepare.work_unit_bytes`."""
UNIT_TOKENS = UNIT_BYTES // 4
UNITS_PER_FILE = 16
"""Work units of a file of 1 GiB."""


@dataclass(frozen=True)
class Cost:
    """What a number of items cost one process."""

    part: str
    count: int
    seconds: float
    cpu_seconds: float
    """Of this process."""
    peak_bytes: int
    """Growth of its resident memory, at its peak."""
    stored_bytes: int = 0
    """Written or read."""

    @property
    def milliseconds_per_item(self) -> float:
        """Wall time."""
        return 1e3 * self.seconds / self.count

    def as_dict(self) -> dict[str, float | str]:
        """All figures, in all and per item, for JSON."""
        return asdict(self) | {
            "milliseconds_per_item": self.milliseconds_per_item,
            "cpu_milliseconds_per_item": 1e3 * self.cpu_seconds / self.count,
            "peak_bytes_per_item": self.peak_bytes / self.count,
        }


def measured(part: str, count: int, run: Callable[[], int]) -> Cost:
    """The cost of `run`, which returns the bytes that it wrote. The peak is of the process: measure each part in a new
    one."""
    before, wall, cpu = psutil.Process().memory_info().rss, time.perf_counter(), time.process_time()
    stored = run()
    seconds, cpu_seconds = time.perf_counter() - wall, time.process_time() - cpu
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    return Cost(part, count, seconds, cpu_seconds, max(peak - before, 0), stored)


class _Idle:
    def pass_(self, item: int) -> None:
        """Work that takes no time."""


def scheduler(units: int, num_workers: int) -> Cost:
    """Work units of no work through the workers of `prepare` on a Ray cluster."""
    from infra.cluster.tasks import RayWorkers

    connect(RayConfig(address="local"))
    workers = RayWorkers(_Idle, num_workers)
    list(workers.map(_Idle.pass_, range(num_workers)))  # they have started

    def run() -> int:
        for _ in workers.map(_Idle.pass_, range(units)):
            pass
        return 0

    try:
        return measured("scheduler", units, run)
    finally:
        workers.close()


class _NoStore:
    """A store that counts what is written, and keeps only the manifest."""

    url = "/nowhere"

    def __init__(self) -> None:
        self.written, self.manifest = 0, b""

    def names(self) -> list[str]:
        return []

    def read(self, name: str) -> bytes | None:
        return None

    def lines(self, name: str) -> Iterator[bytes]:
        yield from ()

    def sha256(self, name: str) -> str | None:
        return None

    def write(self, name: str, data: Any) -> None:
        self.written += len(data)
        if name == MANIFEST_NAME:
            self.manifest = bytes(data)

    def remove(self, names: list[str]) -> None:
        pass


class _MadeUpResults:
    """Workers that give the results of work units at once."""

    def __init__(self, documents: int) -> None:
        self._documents = documents

    def map(
        self, work: Callable[[Worker, WorkUnitTask], Any], tasks: Iterable[WorkUnitTask]
    ) -> Iterator[tuple[WorkUnitTask, Any]]:
        for task in tasks:
            index = task.work_unit.index
            record = ShardRecord(
                file=shard_name("train", index),
                split="train",
                index=index,
                documents=self._documents,
                sentences=UNIT_TOKENS // 20,
                tokens=UNIT_TOKENS,
                num_bytes=UNIT_BYTES,
                file_bytes=4 * UNIT_TOKENS,
                sha256=hashlib.sha256(str(index).encode()).hexdigest(),
                documents_by_input={index // UNITS_PER_FILE: self._documents},
            )
            hashes = np.random.default_rng(index).integers(0, 2**64, self._documents, np.uint64)
            yield task, FinishedWorkUnit((record,), (), hashes)

    def close(self) -> None:
        pass


def _surveys(units: int) -> Iterator[Survey]:
    for file in range(-(-units // UNITS_PER_FILE)):
        source = Source(f"/corpus/part-{file:06d}.jsonl", f"part-{file:06d}.jsonl", "jsonl")
        ends = [UNIT_BYTES * (unit + 1) for unit in range(min(UNITS_PER_FILE, units - file * UNITS_PER_FILE))]
        pieces = tuple(Piece(source, end - UNIT_BYTES, end, 0, UNIT_BYTES) for end in ends)
        sha256 = hashlib.sha256(source.name.encode()).hexdigest()
        yield Survey(source, sha256, ends[-1], "", pieces)


def measure(part: Part, count: int, documents_per_unit: int = 1000, num_workers: int = 2) -> Cost:
    """The cost of one part; `count`: work units, or for the stream documents."""
    if part == "scheduler":
        return scheduler(count, num_workers)
    if part == "stream":
        return stream(count)
    if part == "driver":
        return driver(count, documents_per_unit)[0]
    return manifest(count)


def driver(units: int, documents_per_unit: int) -> tuple[Cost, bytes]:
    """The driver of `prepare` without its workers: plan, results, hashes of the documents' ids, manifest -> its cost,
    and the manifest."""
    tokenizer, segmenter, store = (
        Tokenizer.train(["Text."], 260),
        segmenters.load(segmenters.DEFAULT_SEGMENTER),
        _NoStore(),
    )

    def start(*_: Any) -> Any:
        return _MadeUpResults(documents_per_unit)

    def run() -> int:
        materials = Materials(segmenter, list(_surveys(units)), UNIT_BYTES, tokenizer)
        prepare(Config(), materials, store, start, lambda title, num_bytes: lambda done: None)
        return store.written

    return measured("driver", units, run), store.manifest


def manifest(units: int) -> Cost:
    """Reading the manifest of so many work units in a process of its own, as each training worker does."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder, MANIFEST_NAME)
        file.write_bytes(driver(units, 1)[1])
        with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as pool:
            return pool.submit(_read, file, units).result()


def _read(file: Path, units: int) -> Cost:
    def run() -> int:
        content = file.read_bytes()
        assert len(Manifest.parse(content, MANIFEST_NAME).shards) == units
        return len(content)

    return measured("manifest", units, run)


class _Lengths:
    """Documents of made-up lengths: 10 sentences of 25 tokens on average, as many as there are."""

    def __init__(self, documents: int, seed: int) -> None:
        rng = np.random.default_rng(seed)
        counts_N = rng.integers(1, 20, documents)
        self.sentence_lengths = rng.integers(1, 50, int(counts_N.sum()), np.int32)
        self.sentence_starts_N1: Int64 = np.concatenate([[0], np.cumsum(counts_N)])
        ends = np.concatenate([[0], np.cumsum(self.sentence_lengths, dtype=np.int64)])
        self.token_starts_N1: Int64 = ends[self.sentence_starts_N1]
        self.num_bytes_N: Int64 = np.diff(self.token_starts_N1) * 4

    def tokens(self, start: int, end: int) -> Any:
        raise AssertionError("only the plan is made")

    def gather(self, start_W: Int64, end_W: Int64) -> Any:
        raise AssertionError("only the plan is made")


def stream(documents: int) -> Cost:
    """The plan of an epoch's micro-batches of 16,384 tokens of windows of 64 sentences, as each training worker makes
    it."""
    options, per_shard = StreamConfig(), UNIT_TOKENS // 250
    shards = -(-documents // per_shard)

    def windows(index: Int64) -> SentenceWindows:
        return SentenceWindows(_Lengths(min(per_shard, documents) * len(index), int(index[0])), 64, 0, 1)

    def run() -> int:
        assert sum(len(plan.windows) for plan in reading.first_epoch()) >= documents
        return 0

    corpus = Corpus(np.full(shards, 250 * min(per_shard, documents), np.int64), windows)
    reading = Stream([corpus], 16_384, 0, options)
    return measured("stream", documents, run)
