import dataclasses
import json
import os

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.errors import ConfigError
from pipeline.lineage import (
    Artifact,
    JobRecord,
    artifact_of,
    describe_output,
    digest_file,
    digest_folder,
    identity,
    read_record,
    write_record,
)

CORPUS = Artifact("corpus", "a.txt", "1" * 64)
MODEL = Artifact("model", "lm", "2" * 64, run_id="r1")


def record_in(folder, finished="2026-01-01T00:00:00+00:00", **changes) -> JobRecord:
    record = JobRecord(
        job="train-lm",
        identity="i" * 64,
        config={"lm": {"train": {"steps": 3}}},
        inputs=(CORPUS, MODEL),
        output=Artifact("model", str(folder), "3" * 64, run_id="r2"),
        run_id="r2",
        metrics={"loss": 1.5},
        versions={"torch": "2.13.0"},
        started="2026-01-01T00:00:00+00:00",
        finished=finished,
    )
    return dataclasses.replace(record, **changes)


def test_record_survives_the_disk(tmp_path):
    record = record_in(tmp_path)
    write_record(tmp_path, record)
    assert read_record(tmp_path) == record
    assert [path.name for path in tmp_path.iterdir()] == ["job.json"]


def test_a_record_without_later_fields_is_read(tmp_path):
    record = record_in(tmp_path, user="ann", host="laptop", command="sllm run demo", ray_job="raysubmit_1")
    write_record(tmp_path, record)
    assert read_record(tmp_path) == record
    tree = json.loads((tmp_path / "job.json").read_text())
    for name in ("user", "host", "command", "ray_job"):
        del tree[name]
    (tmp_path / "job.json").write_text(json.dumps(tree))
    assert read_record(tmp_path) == record_in(tmp_path)


def test_record_of_a_moved_folder_points_to_where_it_is(tmp_path):
    write_record(tmp_path / "a", record_in(tmp_path / "a"))
    (tmp_path / "a").rename(tmp_path / "b")
    record = read_record(tmp_path / "b")
    assert record is not None and record.output.path == str(tmp_path / "b")


def test_no_record_is_none(tmp_path):
    assert read_record(tmp_path) is None
    assert read_record(tmp_path / "missing") is None
    (tmp_path / "file").write_text("x")
    assert read_record(tmp_path / "file") is None


@pytest.mark.parametrize("content", ['{"job": "x"', '{"some": "tool"}', "[]", '{"inputs": 3, "output": {}}'])
def test_a_broken_record_is_refused(tmp_path, content):
    (tmp_path / "job.json").write_text(content)
    with pytest.raises(ConfigError, match=r"job\.json"):
        read_record(tmp_path)


def test_identity_goes_by_content_not_by_path():
    moved = dataclasses.replace(CORPUS, path="/elsewhere/b.txt")
    changed = dataclasses.replace(CORPUS, digest="9" * 64)
    config = {"lm": {"steps": 1, "rate": 0.1}}
    base = identity("train-lm", config, [CORPUS, MODEL])
    assert identity("train-lm", {"lm": {"rate": 0.1, "steps": 1}}, [moved, MODEL]) == base
    assert identity("train-lm", config, [changed, MODEL]) != base
    assert identity("train-lm", config, [MODEL, CORPUS]) != base
    assert identity("train-lm", {"lm": {"steps": 2, "rate": 0.1}}, [CORPUS, MODEL]) != base
    assert identity("train-vae", config, [CORPUS, MODEL]) != base


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=8,
)


@given(st.dictionaries(st.text(), json_values))
def test_identity_survives_json(config):
    assert identity("job", json.loads(json.dumps(config)), []) == identity("job", config, [])


def test_folder_digest_sees_names_and_contents_only(tmp_path):
    (tmp_path / "sub").mkdir()
    (tmp_path / "a.bin").write_bytes(b"1")
    (tmp_path / "sub" / "b.bin").write_bytes(b"2")
    before = digest_folder(tmp_path)
    os.utime(tmp_path / "a.bin", (0, 0))
    (tmp_path / "checkpoints").mkdir()
    (tmp_path / "checkpoints" / "step").write_bytes(b"x")
    (tmp_path / ".aside").write_bytes(b"x")
    write_record(tmp_path, record_in(tmp_path))
    assert digest_folder(tmp_path) == before
    (tmp_path / "sub" / "b.bin").rename(tmp_path / "sub" / "c.bin")
    renamed = digest_folder(tmp_path)
    assert renamed != before
    (tmp_path / "sub" / "c.bin").write_bytes(b"3")
    assert digest_folder(tmp_path) not in (before, renamed)


def test_whole_output_means_every_file_with_its_size(tmp_path):
    (tmp_path / "weights").write_bytes(b"123")
    record = record_in(tmp_path, files={"weights": 3})
    assert record.output_is_whole
    assert not record_in(tmp_path, finished=None, files={"weights": 3}).output_is_whole
    (tmp_path / "weights").write_bytes(b"12")
    assert not record.output_is_whole
    (tmp_path / "weights").unlink()
    assert not record.output_is_whole


def test_artifact_of_a_job_is_its_output(tmp_path):
    write_record(tmp_path, record_in(tmp_path))
    assert artifact_of(tmp_path) == Artifact("model", str(tmp_path), "3" * 64, run_id="r2")
    write_record(tmp_path, record_in(tmp_path, finished=None))
    with pytest.raises(ConfigError, match="unfinished"):
        artifact_of(tmp_path)


@pytest.mark.parametrize(
    ("name", "kind"), [("config.json", "model"), ("tokenizer.json", "tokenizer"), ("x.txt", "corpus")]
)
def test_artifact_without_a_job_is_digested(tmp_path, name, kind):
    (tmp_path / name).write_text("{}")
    assert artifact_of(tmp_path) == Artifact(kind, str(tmp_path), digest_folder(tmp_path))


def test_artifact_of_a_file_and_of_nothing(tmp_path):
    (tmp_path / "corpus.txt").write_text("Text.")
    file = tmp_path / "corpus.txt"
    assert artifact_of(file) == Artifact("corpus", str(file), digest_file(file))
    with pytest.raises(ConfigError, match="there is nothing"):
        artifact_of(tmp_path / "missing")


def test_shards_are_digested_by_their_manifest(tmp_path):
    (tmp_path / "manifest.json").write_text('{"sha256": "..."}')
    (tmp_path / "00000.arrow").write_bytes(b"rows")
    shards = describe_output("shards", tmp_path)
    assert shards.digest == digest_file(tmp_path / "manifest.json")
    assert artifact_of(tmp_path) == shards
