"""The checker sees what is lost, twice or changed: each of its verdicts can fail."""

import json
import sqlite3
from contextlib import closing
from pathlib import Path

import pyarrow as pa
import pytest

from tests.faults.histories import Runs, Shards, read_runs, read_shards
from tests.faults.judge import Place, judge_prepare, judge_training, line_of_error

DOCUMENTS = {"a": [1, 2, 3], "b": [4], "c": [5, 6]}


def write_shard(folder: Path, name: str, documents: dict[str, list[int]]) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    rows = [
        {"doc_id": doc_id, "tokens": tokens, "sentence_lengths": [len(tokens)], "num_bytes": 9}
        for doc_id, tokens in documents.items()
    ]
    table = pa.Table.from_pylist(rows)
    with pa.OSFile(str(folder / name), "wb") as sink, pa.ipc.new_file(sink, table.schema) as writer:
        writer.write_table(table)


def write_runs(database: Path, points: list[tuple[str, int, float]], runs: int = 1) -> None:
    with closing(sqlite3.connect(database)) as store:
        store.execute("create table experiments (experiment_id integer, name text)")
        store.execute(
            "create table runs (run_uuid text, status text, experiment_id integer, lifecycle_stage text)"
        )
        store.execute(
            "create table metrics (key text, value real, timestamp integer, run_uuid text, step int)"
        )
        store.execute("insert into experiments values (1, 'here')")
        for run in range(runs):
            store.execute("insert into runs values (?, 'FINISHED', 1, 'active')", (f"r{run}",))
        for time, (key, step, value) in enumerate(points):
            store.execute("insert into metrics values (?, ?, ?, 'r0', ?)", (key, value, time, step))
        store.commit()


def finish(folder: Path, run: str = "r0", finished: str | None = "now") -> None:
    (folder / "job.json").write_text(json.dumps({"run_id": run, "finished": finished}))


@pytest.fixture
def undisturbed(tmp_path: Path) -> Shards:
    write_shard(tmp_path / "undisturbed", "train-00000.arrow", {"a": DOCUMENTS["a"], "b": DOCUMENTS["b"]})
    write_shard(tmp_path / "undisturbed", "train-00001.arrow", {"c": DOCUMENTS["c"]})
    return read_shards(str(tmp_path / "undisturbed"))


@pytest.mark.parametrize(
    ("second", "lost", "twice", "said"),
    [
        ({"c": [5, 6]}, 0, 0, None),
        ({"c": [5, 7]}, 0, 0, "other bytes"),
        ({}, 1, 0, "1 lost, 0 twice"),
        ({"c": [5, 6], "a": [1, 2, 3]}, 0, 1, "0 lost, 1 twice"),
    ],
)
def test_shards(undisturbed: Shards, tmp_path: Path, second, lost, twice, said) -> None:
    write_shard(tmp_path / "out", "train-00000.arrow", {"a": DOCUMENTS["a"], "b": DOCUMENTS["b"]})
    if second:
        write_shard(tmp_path / "out", "train-00001.arrow", second)
    finish(tmp_path / "out")
    write_runs(tmp_path / "m.db", [])
    verdict = judge_prepare(Place(str(tmp_path / "out"), tmp_path / "m.db", "here"), undisturbed)
    assert (verdict.lost, verdict.twice) == (lost, twice)
    assert any(said in wrong for wrong in verdict.wrong) if said else not verdict.wrong


@pytest.mark.parametrize(
    ("runs", "run", "finished", "said"),
    [(2, "r0", "now", "2 MLflow runs"), (1, "r9", "now", "job.json names r9"), (1, "r0", None, "finished")],
)
def test_a_job_stands_once(undisturbed: Shards, tmp_path: Path, runs, run, finished, said) -> None:
    out = tmp_path / "undisturbed"
    finish(out, run, finished)
    write_runs(tmp_path / "m.db", [], runs)
    verdict = judge_prepare(Place(str(out), tmp_path / "m.db", "here"), undisturbed)
    assert len(verdict.wrong) == 1 and said in verdict.wrong[0]


LOSS = "train/nll_per_token"
CURVE = [(LOSS, 1, 2.0), (LOSS, 2, 1.5), ("train/tokens_per_second", 1, 9.0)]


@pytest.mark.parametrize(
    ("points", "lost", "twice", "curve"),
    [
        (CURVE, 0, 0, 0.0),
        ([*CURVE[:2], ("train/tokens_per_second", 1, 5.0)], 0, 0, 0.0),
        (CURVE[:1], 1, 0, 0.0),
        ([*CURVE, (LOSS, 1, 2.0)], 0, 1, 0.0),
        ([CURVE[0], (LOSS, 2, 1.75)], 0, 0, 0.25),
    ],
)
def test_curves(tmp_path: Path, points, lost, twice, curve) -> None:
    out = tmp_path / "out"
    out.mkdir()
    finish(out)
    (out / "model.safetensors").write_bytes(b"weights")
    write_runs(tmp_path / "u.db", CURVE)
    write_runs(tmp_path / "m.db", points)
    undisturbed: Runs = read_runs(tmp_path / "u.db", "here")
    weights = "9a129038d9a00aed0cf6a7ea059ca50a813449061ab87848cf1a13eafdf33b2c"
    verdict = judge_training(Place(str(out), tmp_path / "m.db", "here"), undisturbed, weights)
    assert (verdict.lost, verdict.twice, verdict.curve) == (lost, twice, curve)
    assert bool(verdict.wrong) == bool(lost or twice or curve)
    other = judge_training(Place(str(out), tmp_path / "m.db", "here"), undisturbed, "0" * 64)
    assert "the weights are other ones" in other.wrong


def test_an_error_is_one_line() -> None:
    assert line_of_error("progress\nsllm: no room\n") == ("sllm: no room", None)
    assert line_of_error("Traceback (most recent call last):\nOSError: x\n")[1] is not None
    assert line_of_error("")[1] is not None
