"""Names of files may be any bytes."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.config import DataConfig
from pipeline.corpus import find_sources
from pipeline.corpus.file_names import path_on_disk, readable_path
from tests.pipeline.corpus.corpora import JSONL, content_of, texts


@given(st.binary(min_size=1, max_size=20))
def test_names_of_any_bytes_have_a_text_of_their_own(name: bytes) -> None:
    name = name.replace(b"\0", b"x").replace(b"/", b"y")
    if name in (b".", b".."):
        return
    text = readable_path(os.fsdecode(name))
    text.encode()
    assert os.fsencode(path_on_disk(text)) == name


def test_a_name_that_is_no_utf8_is_read_and_written_as_an_escape(tmp_path: Path) -> None:
    Path(os.fsdecode(os.fsencode(tmp_path) + b"/caf\xe9.txt")).write_text("Coffee.")
    Path(os.fsdecode(os.fsencode(tmp_path) + b"/caf\xe9.arrow")).write_bytes(content_of("arrow"))
    sources = find_sources(DataConfig(inputs=(str(tmp_path),)))
    assert [source.name for source in sources] == ["caf\\xe9.arrow", "caf\\xe9.txt"]
    assert texts(inputs=(str(tmp_path),))[-1] == "Coffee."
    assert texts(inputs=(sources[1].path,)) == ["Coffee."]


@pytest.mark.parametrize("launcher", ["processes", "one process"])
def test_prepare_in_the_c_locale(tmp_path: Path, launcher: str) -> None:
    corpus = tmp_path / "世界"
    corpus.mkdir()
    Path(os.fsdecode(os.fsencode(corpus) + b"/caf\xe9.txt")).write_text("Coffee. And tea.")
    (corpus / "ünï.jsonl").write_bytes(JSONL + b'{"id": "b\xc3\xa4d", "text": 5}\n')
    environment = {**os.environ, "LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
    overrides = [
        f"data.inputs=[{corpus}]",
        f"output={tmp_path}/ö",
        f"tracking.uri=sqlite:///{tmp_path}/mlflow.db",
        "launcher=local",
        "tokenizer.vocab_size=300",
        "data.max_rejected_fraction=0.2",
        f"prepare.num_workers={1 if launcher == 'one process' else 2}",
    ]
    command = [sys.executable, "-m", "jobs", "prepare", *overrides, "--json"]
    done = subprocess.run(command, env=environment, capture_output=True, check=False)
    assert done.returncode == 0, done.stderr.decode(errors="replace")[-2000:]
    assert json.loads(done.stdout.decode())["output"]["path"].endswith("ö")
    manifest = json.loads((tmp_path / "ö/manifest.json").read_bytes())
    assert [file["name"] for file in manifest["identity"]["inputs"]] == ["caf\\xe9.txt", "ünï.jsonl"]
