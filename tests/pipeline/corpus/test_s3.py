"""A corpus at s3://, and shards written there: a server on this machine that speaks S3's protocol."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from infra.storage import Folder
from jobs.prepare import prepare
from pipeline.config import load_config

ROWS = [{"id": f"d{i}", "text": f"Document {i}. It is short."} for i in range(40)]
OVERRIDES = ("prepare.num_workers=1", "tokenizer.vocab_size=300", "prepare.split_bytes=900")


@pytest.fixture(scope="module")
def bucket() -> Iterator[Any]:
    """A file system with an empty bucket `corpus`, on a server that ends with the tests here."""
    import fsspec
    import s3fs
    from moto.server import ThreadedMotoServer

    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("AWS_ENDPOINT_URL", f"http://{host}:{port}")
        patch.setenv("AWS_ACCESS_KEY_ID", "test")
        patch.setenv("AWS_SECRET_ACCESS_KEY", "test")
        patch.setenv("AWS_DEFAULT_REGION", "us-east-1")
        system = fsspec.filesystem("s3", skip_instance_cache=True)
        system.mkdir("corpus")
        yield system
        s3fs.S3FileSystem.clear_instance_cache()
    server.stop()


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
