"""The algorithm of preparing, over a store in memory and workers in this process: no Ray, no file system."""

import hashlib
import json
import random
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from pipeline.config import Config, load_config
from pipeline.lineage import MANIFEST_NAME
from pipeline.shards.manifest import PROGRESS, Manifest
from pipeline.shards.materials import Materials, gather
from pipeline.shards.prepare import prepare
from pipeline.shards.worker import Worker, WorkUnitTask

LONG = " ".join(f"Line {i} of a long text." for i in range(60))
ROWS = [
    {"id": "long", "text": LONG},
    *({"id": f"d{i}", "text": f"Document {i}. Hello, world! " + "More text. " * (i % 7)} for i in range(24)),
    {"id": "near", "text": LONG + " And one more."},
    {"id": "d3", "text": "This one has the id of an earlier document."},
    {"id": "same", "text": "Document 5. Hello, world! " + "More text. " * 5},
    {"id": "d4", "text": "And so has this one."},
]


class Killed(BaseException):
    """As if the process ended here."""


class MemoryStore:
    """A `ShardStore` in a dictionary; after `writes_left` more writes it fails."""

    url = "memory"

    def __init__(self) -> None:
        self.files: dict[str, bytes] = {}
        self.writes_left = -1

    def names(self) -> list[str]:
        return sorted(self.files)

    def read(self, name: str) -> bytes | None:
        return self.files.get(name)

    def lines(self, name: str) -> Iterator[bytes]:
        yield from self.files.get(name, b"").splitlines(keepends=True)

    def sha256(self, name: str) -> str | None:
        return hashlib.sha256(self.files[name]).hexdigest() if name in self.files else None

    def write(self, name: str, data: Any) -> None:
        if self.writes_left == 0:
            raise Killed
        self.writes_left -= 1
        self.files[name] = bytes(data)

    def remove(self, names: list[str]) -> None:
        for name in names:
            self.files.pop(name, None)


class ShuffledWorkers:
    """One worker of this process, which does its tasks in an order of its own; `seed` None: in the order given."""

    def __init__(self, worker: Worker, seed: int | None) -> None:
        self._worker, self._seed = worker, seed
        self.is_closed = False

    def map(
        self, work: Callable[[Worker, WorkUnitTask], Any], tasks: Iterable[WorkUnitTask]
    ) -> Iterator[tuple[WorkUnitTask, Any]]:
        order = list(tasks)
        if self._seed is not None:
            random.Random(self._seed).shuffle(order)
        for task in order:
            yield task, work(self._worker, task)

    def close(self) -> None:
        self.is_closed = True


@pytest.fixture(scope="module")
def given(tmp_path_factory: pytest.TempPathFactory) -> tuple[Config, Materials]:
    """A corpus with repeated ids and near duplicates, in several work units."""
    corpus = tmp_path_factory.mktemp("corpus") / "a.jsonl"
    corpus.write_text("".join(json.dumps(row) + "\n" for row in ROWS))
    overrides = [
        f"data.inputs=[{corpus}]",
        "data.dev_fraction=0.2",
        "data.max_rejected_fraction=0.5",
        "data.filters=[{name: exact_duplicates}, {name: near_duplicates}]",
        "prepare.work_unit_bytes=400",
        "tokenizer.vocab_size=280",
    ]
    config = load_config(None, overrides)
    return config, gather(config, MemoryStore())


def made(
    given: tuple[Config, Materials],
    store: MemoryStore,
    seed: int | None = None,
    done: list[Any] | None = None,
) -> Manifest:
    """Prepare; `done` gets title, total and parts of each pass over the corpus."""
    config, materials = given
    started = []

    def start(here: Worker, _elsewhere: object) -> ShuffledWorkers:
        started.append(ShuffledWorkers(here, seed))
        return started[-1]

    def progress(title: str, num_bytes: int) -> Callable[[int], None]:
        entry = [title, num_bytes]
        (done if done is not None else []).append(entry)
        return entry.append

    try:
        return prepare(config, materials, store, start, progress)
    finally:
        assert all(workers.is_closed for workers in started)


@pytest.fixture(scope="module")
def expected(given: tuple[Config, Materials]) -> dict[str, bytes]:
    """The files of a run that nothing interrupted."""
    store = MemoryStore()
    made(given, store)
    return store.files


def test_each_document_is_in_a_shard_or_listed_with_its_reason(
    given: tuple[Config, Materials], expected: dict[str, bytes]
) -> None:
    shards = [content for name, content in expected.items() if name.endswith(".arrow")]
    ids = [one for content in shards for one in pa.ipc.open_file(content).read_all()["doc_id"].to_pylist()]
    rejected = [json.loads(line) for line in expected["rejected.jsonl"].splitlines()]
    assert {row["doc_id"]: row["reason"] for row in rejected} == {
        "near": "near_duplicates",
        "same": "exact_duplicates",
        "d3": "duplicate id",
        "d4": "duplicate id",
    }
    assert len(shards) > 4 and sorted(ids) == sorted({row["id"] for row in ROWS} - {"near", "same"})
    assert MANIFEST_NAME in expected and not [name for name in expected if name.startswith(PROGRESS)]


@pytest.mark.parametrize("seed", range(5))
def test_the_order_of_results_changes_no_byte(
    given: tuple[Config, Materials], expected: dict[str, bytes], seed: int
) -> None:
    store = MemoryStore()
    made(given, store, seed)
    assert store.files == expected


def test_after_a_kill_at_each_write_a_rerun_completes_the_same_bytes(
    given: tuple[Config, Materials], expected: dict[str, bytes]
) -> None:
    for writes in range(1000):
        store = MemoryStore()
        store.writes_left = writes
        try:
            made(given, store, seed=writes)
        except Killed:
            assert MANIFEST_NAME not in store.files
        else:
            break
        store.writes_left = -1
        made(given, store, seed=-writes)
        assert store.files == expected, f"killed at write {writes}"
    assert writes > 2 * sum(name.endswith(".arrow") for name in expected)


def test_progress_counts_the_bytes_of_each_pass_and_a_finished_output_is_left(
    given: tuple[Config, Materials], tmp_path: Path
) -> None:
    store, passes = MemoryStore(), list[Any]()
    manifest = made(given, store, done=passes)
    titles = ["train the tokenizer", "look for duplicates", "prepare", "without repeated ids"]
    assert [title for title, *_ in passes] == titles
    assert all(total == sum(parts) for _, total, *parts in passes)
    corpus_bytes = manifest.identity.inputs[0].num_bytes
    assert passes[1][1] == passes[2][1] == corpus_bytes > passes[3][1] > 0
    store.writes_left = 0
    assert made(given, store) == manifest


def test_what_a_killed_worker_had_begun_is_gone_at_the_end(given: tuple[Config, Materials]) -> None:
    store = MemoryStore()
    write, begun = store.write, ".train-00000.arrow.12-34.partial"

    def written(name: str, data: Any) -> None:
        if name == MANIFEST_NAME:
            store.files[begun] = b"half"
            store.files[".notes.12-34.partial"] = b"another's"
        write(name, data)

    store.write = written  # type: ignore[method-assign]
    made(given, store)
    assert begun not in store.files and ".notes.12-34.partial" in store.files
