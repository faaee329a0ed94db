"""Runs are found by the files that they read, whatever the number of files."""

import hashlib
import json

from hypothesis import given
from hypothesis import strategies as st

from infra.tracking.corpus_files import (
    FILES,
    OVERFULL,
    PATHS,
    buckets,
    corpus_name,
    corpus_of,
    input_tags,
    is_in,
    path_digest,
    source_of,
)
from infra.tracking.run import start_run
from infra.tracking.search import RunSearch
from infra.tracking.store import client_of
from pipeline.config import TrackingConfig
from pipeline.lineage import Artifact


def sha256(text):
    return hashlib.sha256(str(text).encode()).hexdigest()


def files(count, start=0):
    return [Artifact("corpus", f"/corpus/{i}.jsonl", sha256(i)) for i in range(start, start + count)]


@given(st.sets(st.integers(0, 10**6), max_size=200), st.integers(0, 10**6))
def test_tags_hold_exactly_what_was_put_in(numbers, other):
    tags = buckets(FILES, [sha256(number) for number in numbers])
    assert all(is_in(tags, FILES, sha256(number)) for number in numbers)
    assert is_in(tags, FILES, sha256(other)) == (other in numbers)
    assert all(1 <= len(value) <= 8000 for value in tags.values())


def test_tags_of_very_many_files_say_that_they_do_not_know():
    tags = buckets(FILES, [sha256(i) for i in range(20_000)])
    assert set(tags.values()) == {OVERFULL} and len(tags) == 16
    assert is_in(tags, FILES, sha256(0)) is None and is_in(tags, FILES, sha256(-1)) is None
    assert OVERFULL not in buckets(FILES, [sha256(i) for i in range(10_000)]).values()


def test_names_and_sources():
    names = {
        ("/data/books/*.jsonl.gz",): "books",
        ("s3://b/wiki/day=*/x*.parquet?token=a*",): "wiki",
        ("https://h/a/b.jsonl?sig=x",): "b",
        ("python-docs:",): "python-docs",
        ("datasets:/data/set",): "set",
        ("/a/x", "/b/x", "/c/y", "/d/z", "/e/w"): "x + y + z + 1 more",
    }
    for patterns, name in names.items():
        assert corpus_name(patterns) == name
    two = corpus_of(files(2), ["https://me:secret@h/a.jsonl", "b/*.txt"])
    assert two.num_files == 2 and "secret" not in repr(two) and two.source[1].startswith("/")
    assert corpus_of(reversed(files(2)), two.source) == two
    kind, source = source_of(corpus_of(files(20_000), []))
    assert kind == "local" and len(json.dumps(source)) < 65_535 and source["uri"].endswith(" more")


def test_runs_are_found_by_content_and_by_path(tracking_uri, tmp_path):
    def job(name, inputs, kind="shards"):
        run = start_run(TrackingConfig(uri=tracking_uri), name, str(tmp_path / name))
        config = {"data": {"inputs": ["/corpus/*.jsonl"]}} if kind == "shards" else {}
        run.log_start(config, inputs, {"sllm.job": "prepare"})
        made = Artifact(kind, str(tmp_path / name), sha256(name), run.run_id)
        run.log_output(made, {})
        run.end("FINISHED")
        assert run.close()
        return made

    shards = [job("many", files(300)), job("other", files(3, 300)), job("overfull", files(16_000, 1000))]
    job("lm", [shards[0]], "model")
    moved = Artifact("shards", "/elsewhere/many", shards[0].digest, shards[0].run_id)
    job("again", [moved], "model")
    search = RunSearch(tracking_uri)

    def names(jobs):
        return {job.record.output.path.rpartition("/")[2]: job.has_file(sha256(7)) for job in jobs}

    assert names(search.readers_of_file(sha256(7))) == {"many": True, "overfull": None}
    assert set(names(search.readers_of_file(sha256(301)))) == {"other", "overfull"}
    assert set(names(search.readers_of([one.digest for one in shards]))) == {"lm", "again"}
    assert set(names(search.readers_of_path("/corpus/301.jsonl"))) == {"other", "overfull"}
    by_path = search.readers_of_path(shards[0].path)
    assert {job.record.output.path: job.has_path(shards[0].path) for job in by_path} == {
        str(tmp_path / "lm"): True,
        shards[2].path: None,
    }
    again = next(job for job in search.readers_of([moved.digest]) if job.record.output.path.endswith("again"))
    assert again.record.inputs == (moved,)  # MLflow has one dataset for both
    runs = {shards[0].run_id, shards[2].run_id}
    before = search.searches
    assert set(search.runs([*runs, "0" * 32])) == runs and search.searches == before + 1
    stored = client_of(tracking_uri).get_run(shards[0].run_id)
    assert [one.dataset.name for one in stored.inputs.dataset_inputs] == ["corpus", "many"]
    assert (
        path_digest("/corpus/7.jsonl")[:10]
        in input_tags(files(8))[f"{PATHS}.{path_digest('/corpus/7.jsonl')[0]}"]
    )
