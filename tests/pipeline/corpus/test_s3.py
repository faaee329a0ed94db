"""A corpus at s3://, and shards written there: a server on this machine that serves S3's protocol."""

import json
import os
from pathlib import Path
from typing import Any

import botocore.session
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from infra.storage import Folder, StorageError
from jobs.prepare import prepare
from pipeline.config import DataConfig, load_config
from pipeline.corpus import find_sources
from pipeline.errors import CorpusError

ROWS = [{"id": f"d{i}", "text": f"Document {i}. It is short."} for i in range(40)]
OVERRIDES = ("prepare.num_workers=1", "tokenizer.vocab_size=300", "prepare.work_unit_bytes=900")


@pytest.fixture(scope="module")
def bucket(s3: Any) -> Any:
    """A file system with an empty bucket `corpus`."""
    s3.mkdir("corpus")
    return s3


def test_a_corpus_and_its_shards_in_a_bucket(bucket: Any, tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text("".join(json.dumps(row) + "\n" for row in ROWS))
    pq.write_table(
        pa.Table.from_pylist([{**row, "id": f"p{row['id']}"} for row in ROWS]), tmp_path / "b.parquet"
    )
    for name in ("a.jsonl", "b.parquet"):
        bucket.pipe_file(f"corpus/in/{name}", (tmp_path / name).read_bytes())
    local = f"data.inputs=[{tmp_path}/a.jsonl, {tmp_path}/b.parquet]"
    prepare(load_config(None, [local, *OVERRIDES]), str(tmp_path / "out"))
    config = load_config(None, ["data.inputs=['s3://corpus/in']", *OVERRIDES])
    manifest = prepare(config, "s3://corpus/out")
    folder = Folder("s3://corpus/out")
    shards = [name for name in folder.names() if name.endswith(".arrow")]
    assert len(shards) == len(manifest.shards) > 2
    assert all(folder.read(name) == (tmp_path / "out" / name).read_bytes() for name in shards)
    # What is lost there is made again, and nothing else.
    folder.remove([shards[0]])
    assert prepare(config, "s3://corpus/out") == manifest
    assert folder.names().count(shards[0]) == 1


def test_markers_of_folders_are_no_documents_and_globs_of_folders_are_their_files(bucket: Any) -> None:
    client = botocore.session.get_session().create_client("s3", endpoint_url=os.environ["AWS_ENDPOINT_URL"])
    rows = "".join(json.dumps(row) + "\n" for row in ROWS).encode()
    for key in (
        "dataset/",
        "dataset/sub/",
        "dataset/empty/",
        "dataset/gone_$folder$",
        "dataset/_SUCCESS",
        "alone/",
    ):
        client.put_object(Bucket="corpus", Key=key, Body=b"")
    for key in ("dataset/a.jsonl", "dataset/sub/b.jsonl"):
        client.put_object(Bucket="corpus", Key=key, Body=rows)
    both = ["a.jsonl", "sub/b.jsonl"]
    for given, names in (
        ("s3://corpus/dataset", both),
        ("s3://corpus/dataset/", both),
        ("s3:///corpus/dataset", both),
        ("s3://corpus/dataset/**", both),
        ("s3://corpus/dataset/*", ["a.jsonl"]),
        ("s3://corpus/data*", [f"dataset/{name}" for name in both]),
        ("s3://corpus/dataset/s*", ["sub/b.jsonl"]),
    ):
        said: list[str] = []
        sources = find_sources(DataConfig(inputs=(given,)), said.append)
        assert [source.name for source in sources] == names, given
        assert given.endswith("s*") or (
            "folder" in said[0] and "(," not in said[0] and "(sub/, sub/" not in said[0]
        )
    for given in ("s3://corpus/alone", "s3://corpus/alone/", "s3://corpus/dataset/empty/"):
        with pytest.raises(CorpusError, match="no file in a folder of that name"):
            find_sources(DataConfig(inputs=(given,)))
    with pytest.raises(CorpusError, match="the newest version alone is read"):
        find_sources(DataConfig(inputs=("s3://corpus/dataset/a.jsonl?versionId=x",)))


def sllm(*arguments: str) -> Any:
    from typer.testing import CliRunner

    from jobs.cli import app

    return CliRunner().invoke(app, list(arguments))


def test_a_mistyped_bucket_is_refused_before_work_and_never_made(
    bucket: Any, tmp_path: Path, tracking_uri: str
) -> None:
    (tmp_path / "a.jsonl").write_text(json.dumps(ROWS[0]) + "\n")
    done = sllm(
        "prepare", f"data.inputs={tmp_path}/a.jsonl", "output=s3://corpsu/out", f"tracking.uri={tracking_uri}"
    )
    assert (
        done.exit_code != 0 and "there is no bucket 'corpsu'" in done.stderr and done.stderr.count("\n") == 1
    )
    with pytest.raises(StorageError):
        Folder("s3://corpsu/out").write("a", b"")
    assert not bucket.exists("corpsu")
    assert sllm("inspect", "s3://corpsu/out").exit_code == 2
    assert not bucket.exists("corpsu") and not list(tmp_path.glob("*:"))


def test_shards_in_a_bucket_are_inspected_and_traced(
    bucket: Any, tmp_path: Path, tracking_uri: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    bucket.pipe_file("corpus/traced.jsonl", "".join(json.dumps(row) + "\n" for row in ROWS).encode())
    overrides = (
        "data.inputs=s3://corpus/traced.jsonl",
        "output=s3://corpus/traced",
        "launcher=local",
        *OVERRIDES,
    )
    done = sllm("prepare", *overrides, f"tracking.uri={tracking_uri}")
    assert done.exit_code == 0, done.stderr
    report = json.loads(sllm("inspect", "s3://corpus/traced", "--json").stdout)
    assert report["damaged"] == [] and report["splits"]["train"]["documents"] == len(ROWS)
    step = json.loads(sllm("lineage", "s3://corpus/traced", "--json").stdout)
    assert step["job"] == "prepare" and step["made_from"][0]["artifact"]["path"] == "s3://corpus/traced.jsonl"
    forward = sllm("lineage", "s3://corpus/traced.jsonl", "--json", "--tracking", tracking_uri)
    assert json.loads(forward.stdout)["went_into"][0]["artifact"]["path"] == "s3://corpus/traced"
    missing = sllm("lineage", "s3://corpus/nothing", "--tracking", tracking_uri)
    assert missing.exit_code == 2 and "there is nothing at s3://corpus/nothing" in missing.stderr

    shard = sorted(name for name in Folder("s3://corpus/traced").names() if name.endswith(".arrow"))[0]
    content = bytearray(bucket.cat_file(f"corpus/traced/{shard}"))
    content[-1] ^= 1
    bucket.pipe_file(f"corpus/traced/{shard}", bytes(content))  # a copy of the intact one is in the cache
    damaged = sllm("inspect", "s3://corpus/traced", "--samples", "0")
    assert damaged.exit_code == 2 and f"{shard} in 's3://corpus/traced': checksum differs" in damaged.stderr

    # What others put there stays, whatever is made anew.
    bucket.pipe_file("corpus/traced/notes.txt", b"mine")
    bucket.pipe_file("corpus/traced/progress/notes.txt", b"mine")
    again = sllm("prepare", *overrides, "tokenizer.vocab_size=310", f"tracking.uri={tracking_uri}", "--force")
    assert again.exit_code == 0, again.stderr
    assert bucket.cat_file("corpus/traced/notes.txt") == bucket.cat_file("corpus/traced/progress/notes.txt")
    bucket.pipe_file("corpus/other/notes.txt", b"mine")
    refused = sllm("prepare", *overrides, "output=s3://corpus/other", f"tracking.uri={tracking_uri}")
    assert refused.exit_code == 2 and "holds notes.txt, which no job of ours wrote" in refused.stderr
