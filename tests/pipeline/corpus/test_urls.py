"""Inputs at a URL: a web server on this machine."""

import functools
import gzip
import http.server
import json
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from jobs.prepare import prepare
from pipeline.config import DataConfig, load_config
from pipeline.corpus import find_sources, survey_all
from pipeline.errors import CorpusError
from tests.pipeline.corpus.corpora import JSONL, ROWS, texts

DOCUMENTS = [{"id": f"d{i}", "text": f"Document {i}. It is short."} for i in range(40)]


class _Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *_arguments: object) -> None:
        pass


@pytest.fixture
def served(tmp_path: Path) -> Iterator[str]:
    """Address of a server of the folder `tmp_path/web`."""
    web = tmp_path / "web"
    web.mkdir()
    lines = "".join(json.dumps(row) + "\n" for row in DOCUMENTS).encode()
    (web / "a.jsonl").write_bytes(lines)
    (web / "a.jsonl.gz").write_bytes(gzip.compress(lines))
    pq.write_table(pa.Table.from_pylist(DOCUMENTS), web / "a.parquet")
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(_Quiet, directory=web))
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()
    thread.join()


@pytest.mark.parametrize("name", ["a.jsonl", "a.jsonl.gz", "a.parquet"])
def test_files_of_a_web_server_are_read_as_local_ones(served: str, tmp_path: Path, name: str) -> None:
    def shards(source: str, output: Path) -> dict[str, bytes]:
        overrides = [
            "launcher=local",
            "prepare.num_workers=1",
            "tokenizer.vocab_size=300",
            "prepare.work_unit_bytes=900",
        ]
        prepare(load_config(None, [f"data.inputs=[{source}]", *overrides]), str(output))
        return {file.name: file.read_bytes() for file in output.glob("*.arrow")}

    remote = shards(f"{served}/{name}", tmp_path / "remote")
    assert remote == shards(str(tmp_path / "web" / name), tmp_path / "local")
    assert len(remote) > 1 or name == "a.parquet"


def test_what_the_server_does_not_have_is_named(served: str) -> None:
    data = load_config(None, [f"data.inputs=[{served}/nothing.jsonl]"]).data
    with pytest.raises(CorpusError, match=r"nothing\.jsonl"):
        survey_all(find_sources(data), data, 1000)


def test_urls_with_queries(tmp_path: Path) -> None:
    (tmp_path / "a b.jsonl").write_bytes(JSONL)
    (tmp_path / "download").write_bytes(gzip.compress(JSONL))
    handler = functools.partial(_Quiet, directory=tmp_path)
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        server_url = f"http://127.0.0.1:{server.server_port}"
        for query in ("", "?download=true", "?u=https://x/y.zip&e=.parquet", "?x=a::b", "?q=[1]*", "?a#part"):
            url = f"{server_url}/a%20b.jsonl{query}"
            assert [one.name for one in find_sources(DataConfig(inputs=(url,)))] == ["a b.jsonl"]
            assert texts([], inputs=(url,)) == [row["text"] for row in ROWS]
        assert len(texts([], inputs=(f"{server_url.upper()}/download?file=a.zip",))) == 30
        with pytest.raises(CorpusError, match="there is no such file"):
            texts(inputs=(f"{server_url}/none.jsonl?x=1",))
        server.shutdown()


class _Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, format: str, *args: Any) -> None:
        pass
