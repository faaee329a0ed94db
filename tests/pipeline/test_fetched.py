"""Models at URLs are copied to this machine once, verified, and never half."""

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import fsspec
import pytest

from pipeline import fetched
from pipeline.config import load_config
from pipeline.errors import ModelError
from pipeline.fetched import local_file, local_model
from pipeline.lineage import Artifact, JobRecord, digest_files, record_text
from pipeline.models.model_folder import with_local_models

FILES = {"config.json": b"{}", "model.safetensors": b"weights", "tokenizer.json": b"{}"}


@pytest.fixture
def store(tmp_path: Path) -> Iterator[str]:
    """The URL of a finished model, with a checkpoint and a file of a person beside it."""
    source = tmp_path / "source"
    source.mkdir()
    for name, content in FILES.items():
        (source / name).write_bytes(content)
    put(f"file-model{tmp_path}", source)
    yield f"memory://file-model{tmp_path}/lm"
    fsspec.filesystem("memory").rm(f"/file-model{tmp_path}", recursive=True)


def put(root: str, source: Path, **changes: Any) -> None:
    system = fsspec.filesystem("memory")
    record = JobRecord(
        **{
            "job": "train-lm", "identity": "", "config": {}, "inputs": (), "run_id": "r", "metrics": {}, "versions": {},
            "output": Artifact("model", "", digest_files(source, FILES), "r"), "started": "s", "finished": "f",
            "files": {name: len(content) for name, content in FILES.items()}, **changes,
        }
    )  # fmt: skip
    for name in FILES:
        system.pipe_file(f"/{root}/lm/{name}", (source / name).read_bytes())
    system.pipe_file(f"/{root}/lm/job.json", record_text(record).encode())
    system.pipe_file(f"/{root}/lm/checkpoints/step-000000001/training_state.json", b"{}")
    system.pipe_file(f"/{root}/lm/notes.txt", b"mine")


def test_a_copy_has_the_model_alone_and_is_made_once(
    store: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = Path(local_model(store, str(tmp_path / "cache")))
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == FILES
    assert str(tmp_path) in str(folder) and "lm" in folder.parts
    monkeypatch.setattr(fetched, "_fetch", None)  # nothing is fetched again
    assert local_model(f"{store}/", str(tmp_path / "cache")) == str(folder)
    assert local_model(str(folder), "") == str(folder) and local_model("gpt2", "") == "gpt2"


def test_a_damaged_copy_is_made_anew_and_a_damaged_model_refused(store: str, tmp_path: Path) -> None:
    cache = str(tmp_path / "cache")
    folder = Path(local_model(store, cache))
    (folder / "model.safetensors").write_bytes(b"flipped")
    fetched._verified.clear()  # as in another process
    assert Path(local_model(store, cache), "model.safetensors").read_bytes() == b"weights"
    (folder / "tokenizer.json").unlink()
    assert Path(local_model(store, cache), "tokenizer.json").read_bytes() == b"{}"
    fsspec.filesystem("memory").pipe_file(f"{store}/model.safetensors", b"flipped")
    with pytest.raises(ModelError, match="is damaged: its files have not the digest"):
        local_model(store, str(tmp_path / "other"))
    fsspec.filesystem("memory").rm_file(f"{store}/model.safetensors")
    with pytest.raises(ModelError, match=r"lacks model.safetensors"):
        local_model(store, str(tmp_path / "other"))
    assert {path.suffix for path in (tmp_path / "other").rglob("*") if path.is_file()} == {".lock"}


def test_other_content_has_another_copy(store: str, tmp_path: Path) -> None:
    before = local_model(store, str(tmp_path / "cache"))
    (tmp_path / "source" / "model.safetensors").write_bytes(b"other weights")
    root = store.removeprefix("memory://").removesuffix("/lm")
    put(root, tmp_path / "source")
    after = local_model(store, str(tmp_path / "cache"))
    assert before != after and Path(after, "model.safetensors").read_bytes() == b"other weights"
    assert Path(before, "model.safetensors").read_bytes() == b"weights"  # another process may read it


def test_what_is_no_finished_model_is_refused(store: str, tmp_path: Path) -> None:
    root = store.removeprefix("memory://").removesuffix("/lm")
    put(root, tmp_path / "source", finished=None)
    with pytest.raises(ModelError, match="is the unfinished output of train-lm"):
        local_model(store, str(tmp_path))
    put(root, tmp_path / "source", output=Artifact("shards", "", "", "r"), job="prepare")
    with pytest.raises(ModelError, match="holds the shards of prepare, not a model"):
        local_model(store, str(tmp_path))
    with pytest.raises(ModelError, match="there is no model or tokenizer at"):
        local_model(f"{store}/nothing", str(tmp_path))


def test_a_model_without_a_record_and_single_files(store: str, tmp_path: Path) -> None:
    system = fsspec.filesystem("memory")
    system.rm_file(f"{store}/job.json")
    folder = Path(local_model(store, str(tmp_path / "cache")))
    assert {path.name for path in folder.iterdir()} == set(FILES)
    system.pipe_file(f"{store}/model.safetensors", b"new weights")
    other = Path(local_model(store, str(tmp_path / "cache")))
    assert other != folder and (other / "model.safetensors").read_bytes() == b"new weights"
    notes = Path(local_file(f"{store}/notes.txt", str(tmp_path / "cache")))
    assert notes.name == "notes.txt" and notes.read_bytes() == b"mine"


def test_a_configuration_names_urls_and_is_read_from_copies(store: str, tmp_path: Path) -> None:
    config = load_config(
        None, [f"models.vae={store}", f"trunk.path={store}", f"stream.cache={tmp_path}", "models.lm=gpt2"]
    )
    local = with_local_models(config, ["vae", "lm", "trunk"])
    assert local.models.vae == local.trunk.path == local_model(store, str(tmp_path))
    assert (local.models.lm, local.models.sllm, config.models.vae) == ("gpt2", None, store)


def test_no_secret_of_a_url_is_in_the_name_of_a_copy() -> None:
    parts = fetched._parts_of("ftp://user:pass@host:21/a/../.b c/lm?token=secret")
    assert parts == ["ftp", "host_21", "a", "_", "_b_c", "lm"]


def test_several_processes_make_one_copy(tmp_path: Path) -> None:
    source = tmp_path / "source"
    source.mkdir()
    for name, content in FILES.items():
        (source / name).write_bytes(content * 1000)
    digest = digest_files(source, FILES)
    code = (
        "from pipeline import fetched\nfetch = fetched._fetch\n"
        f"def counted(*given): open('{tmp_path}/fetched', 'a').write('x'); fetch(*given)\n"
        "fetched._fetch = counted\n"
        f"print(fetched._copy('local://{source}', {sorted(FILES)}, '{digest}', '{digest}', '{tmp_path}/cache'))"
    )
    started = [subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE) for _ in range(3)]
    found = {process.communicate(timeout=120)[0] for process in started}
    assert len(found) == 1
    folder = Path(found.pop().decode().strip())
    assert {path.name for path in folder.parent.iterdir()} == {folder.name, f".{folder.name}.lock"}
    assert (tmp_path / "fetched").read_text() == "x", "one process fetches for all"
    assert digest_files(folder, FILES) == digest
