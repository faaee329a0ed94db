"""A checkpoint is found whole or not at all, locally and at a URL; a damaged one is never taken for whole."""

import contextlib
import itertools
import os
import shutil
import threading
import uuid
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from infra.checkpoints.folder import CheckpointFolder
from infra.local_training import LocalRuntime
from infra.storage import Folder
from pipeline.errors import TrainingError
from pipeline.remote import StorageError
from pipeline.training.checkpoint import CHECKSUMS_FILE, STATE_FILE, Checkpoint
from tests.infra.checkpoints.threads import on_ranks
from tests.pipeline.training.small_checkpoint import write, write_rank

SIZES = {"a": 10, "b": 3}


@pytest.fixture(scope="module", autouse=True)
def one_at_a_time():
    """All readers of a file in fsspec's memory share one position."""
    lock = threading.RLock()

    def locked(method):
        def call(*arguments):
            with lock:
                return method(*arguments)

        return call

    with pytest.MonkeyPatch.context() as patch:
        for name in ("put", "get", "read", "write", "names", "remove"):
            patch.setattr(Folder, name, locked(getattr(Folder, name)))
        yield


@pytest.fixture(params=["", "memory://"])
def url(request, tmp_path):
    yield f"{request.param}{tmp_path}/checkpoints"
    if request.param:
        import fsspec

        fsspec.filesystem("memory").store.clear()


def saved(url, step, world_size=2, keep=2, model=None):
    """Save by several ranks -> what each raised."""

    def save(ranks):
        def put(folder):
            write_rank(folder, SIZES, list(range(1, ranks.world_size)), step, ranks.rank)
            if model is not None and ranks.rank == 0:
                (folder / "model").mkdir()
                (folder / "model" / "config.json").write_text("{}")
                (folder / "model" / "model.safetensors").write_text(model)

        CheckpointFolder(url).save(step, put, keep, ranks)

    return on_ranks(world_size, save)


def newest(url, world_size=1):
    """Step of the newest checkpoint, as each rank reads it, and the warnings."""
    warnings = []

    def read(ranks):
        with CheckpointFolder(url).newest(ranks, warnings.append) as folder:
            if folder is None:
                return None
            checkpoint = Checkpoint(folder)
            assert checkpoint.read("weight", "a", 0, 10).shape == (10,)
            return checkpoint.state["step"]

    (step, *others) = on_ranks(world_size, read)
    assert all(other == step or type(other) is type(step) for other in others)
    if isinstance(step, Exception):
        raise step
    return step, warnings


def test_it_is_read_by_other_numbers_of_ranks_and_older_ones_are_removed(url):
    assert newest(url, 3) == (None, [])
    for step in (1, 2, 3, 4):
        assert saved(url, step, world_size=step) == [None] * step
        assert newest(url, 5 - step) == (step, [])
    assert CheckpointFolder(url).names() == ["step-000000004", "step-000000003"]
    # Another attempt knows what earlier ones wrote.
    assert saved(url, 5, keep=1) == [None, None]
    assert {name.partition("/")[0] for name in Folder(url).names()} == {"step-000000005"}
    CheckpointFolder(url).clear()
    assert Folder(url).names() == []


def test_a_run_that_is_killed_anywhere_leaves_the_checkpoint_before_or_the_new_one(url, monkeypatch):
    """It is killed at its first write to the disk or the store, then at its second, and so on."""
    places = [(Folder, name) for name in ("put", "write", "remove")] if "://" in url else []
    places += [] if places else [(os, "fsync"), (Path, "replace"), (Path, "rename"), (Path, "unlink")]
    saved(url, 1)
    found = []
    for number in itertools.count():
        step, calls = 2 + number, itertools.count()

        def killed(call, calls=calls, number=number):
            def counted(*arguments, **options):
                if next(calls) >= number:  # nothing is cleaned up either
                    raise KeyboardInterrupt
                return call(*arguments, **options)

            return counted

        try:
            with monkeypatch.context() as patch, contextlib.suppress(KeyboardInterrupt):
                for where, name in places:
                    patch.setattr(where, name, killed(getattr(where, name)))
                CheckpointFolder(url).save(step, lambda folder, step=step: put(folder, step), 1)
            found.append(newest(url))
            assert found[-1] in ((step, []), (found[-2][0] if number else 1, []))
        finally:
            killed_at = number < next(calls)
        if not killed_at:
            break
    assert number > 5 and len({step for step, _ in found}) < number
    assert {name.partition("/")[0] for name in Folder(url).names()} == {f"step-{step:09d}"}


def put(folder, step):
    write_rank(folder, SIZES, [], step, 0)


def test_the_error_of_one_rank_is_that_of_all_and_nothing_is_left(url):
    saved(url, 1)

    def save(ranks):
        def put(folder):
            write_rank(folder, SIZES, [4], 2, ranks.rank)
            if ranks.rank == 1:
                raise OSError("No space left on device")

        CheckpointFolder(url).save(2, put, 2, ranks)

    errors = on_ranks(2, save)
    assert all(isinstance(error, TrainingError) and "No space left" in str(error) for error in errors)
    assert {name.partition("/")[0] for name in Folder(url).names()} == {"step-000000001"}


def test_a_damaged_one_is_passed_over_and_replaced(url):
    for step in (1, 2, 3):
        saved(url, step, keep=3)
    for step, name in ((3, "state-00001-of-00002.safetensors"), (2, STATE_FILE)):
        file = f"step-{step:09d}/{name}"
        content = Folder(url).read(file)
        Folder(url).write(file, bytes([content[0] ^ 1]) + content[1:])
    step, warnings = newest(url, 2)
    assert step == 1
    assert [warning.count("passed over") for warning in warnings] == [1, 1]
    assert "step-000000003 is damaged" in warnings[0] and f"{url.rpartition('/')[0]}" in warnings[0]
    saved(url, 2)  # those after it are damaged
    assert CheckpointFolder(url).names() == ["step-000000002", "step-000000001"]
    assert newest(url) == (2, [])


def test_where_all_are_damaged_training_does_not_start_anew(url):
    saved(url, 1)
    saved(url, 2)
    for name in CheckpointFolder(url).names():
        Folder(url).remove([f"{name}/state-00000-of-00002.safetensors"])
    with pytest.raises(TrainingError, match=r"step-000000002 is damaged.*remove that folder"):
        newest(url, 2)


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    url = str(tmp_path_factory.mktemp("whole"))
    saved(url, 1, model="weights")
    return {name: Folder(url).read(name) for name in Folder(url).names()}


@given(st.data())
def test_any_flipped_bit_is_noticed(whole, tmp_path_factory, data):
    scheme = data.draw(st.sampled_from(["", "memory://"]))
    folder = Folder(f"{scheme}{tmp_path_factory.mktemp('flipped')}/{uuid.uuid4()}")
    name = data.draw(st.sampled_from(sorted(whole)))
    bit = data.draw(st.integers(0, 8 * len(whole[name]) - 1))
    content = bytearray(whole[name])
    content[bit // 8] ^= 1 << bit % 8
    for file, of in (whole | {name: bytes(content)}).items():
        folder.write(file, of)
    with pytest.raises(TrainingError, match="damaged"):
        newest(folder.url)
    if "model/" in name:
        with pytest.raises(TrainingError, match="damaged"):
            CheckpointFolder(folder.url).keep_model(f"{folder.url}/model")


def test_lost_checksums_are_damage_and_those_of_earlier_versions_load(tmp_path):
    folder = write(tmp_path / "step-000000001", SIZES, [4])
    (folder / CHECKSUMS_FILE).unlink()
    with pytest.raises(TrainingError, match=r"checksums\.sha256"):
        newest(str(tmp_path))
    state = (folder / STATE_FILE).read_text()
    (folder / STATE_FILE).write_text(state.replace(', "checksums": "checksums.sha256"', ""))
    assert newest(str(tmp_path)) == (1, [])
    # Those of Ray Train, from which earlier versions resumed too.
    shutil.copytree(folder, tmp_path / "checkpoint_2026-11-26_01-02-03.456789")
    shutil.rmtree(folder)
    assert newest(str(tmp_path)) == (1, [])
    saved(str(tmp_path), 2, keep=1)
    assert [path.name for path in tmp_path.iterdir()] == ["step-000000002"]


def test_files_of_other_nodes_must_be_there(tmp_path):
    def save(ranks):
        def put(folder):
            write_rank(folder, SIZES, [4], 1, ranks.rank)

        CheckpointFolder(str(tmp_path / str(ranks.rank))).save(1, put, 2, ranks)

    errors = on_ranks(2, save)
    assert all("name a folder that all nodes share, or a URL" in str(error) for error in errors)


def test_a_model_is_whole_when_its_config_is_there(url, monkeypatch):
    saved(url, 1, model="first")
    output = f"{url.rpartition('/')[0]}/model"
    CheckpointFolder(url).keep_model(output)
    assert Folder(output).read("model.safetensors") == b"first"
    saved(url, 2, model="second")
    put, seen = Folder.put, []

    def watched(folder, name, path):
        seen.append((name, folder.read("config.json")))
        put(folder, name, path)

    monkeypatch.setattr(Folder, "put", watched)
    CheckpointFolder(url).keep_model(output)
    assert seen == [("model.safetensors", None), ("config.json", None)]
    assert Folder(output).read("model.safetensors") == b"second" and Folder(output).read("config.json")
    saved(url, 3)
    with pytest.raises(TrainingError, match="has no model"):
        CheckpointFolder(url).keep_model(output)
    with pytest.raises(TrainingError, match="without a checkpoint"):
        CheckpointFolder(f"{url}/none").keep_model(output)


def test_a_store_that_refuses_for_a_while_is_asked_again(tmp_path, monkeypatch, caplog):
    url, refused = f"memory://{tmp_path}/checkpoints", [OSError("503 slow down")] * 2
    put = Folder.put

    def refusing(folder, name, path):
        if refused:
            raise StorageError("no") from refused.pop()
        put(folder, name, path)

    monkeypatch.setattr(Folder, "put", refusing)
    monkeypatch.setattr("time.sleep", lambda seconds: None)
    assert saved(url, 1, world_size=1) == [None]
    assert newest(url) == (1, []) and caplog.text.count("tried again") == 2
    refused.append(PermissionError("denied"))
    (error,) = saved(url, 2, world_size=1)
    assert isinstance(error, StorageError) and newest(url) == (1, [])


def test_copies_from_a_url_are_removed(tmp_path, monkeypatch):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    url = f"memory://{tmp_path}/checkpoints"
    saved(url, 1, model="weights")
    with CheckpointFolder(url).newest() as folder:
        assert folder.is_relative_to(tmp_path) and folder.name == "step-000000001"
    newest(url, 3)
    CheckpointFolder(url).keep_model(f"{url}/model")
    assert not list(tmp_path.iterdir())
    # Those of a process that was killed go when the run starts again; those of others stay.
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("shutil.rmtree", lambda *_, **__: None)
        newest(url)
        newest(f"{url}/of-another")
        with CheckpointFolder(url).newest():
            pass
    (tmp_path / "sllm-checkpoint-of-another").mkdir()
    assert len(list(tmp_path.iterdir())) == 3
    LocalRuntime(CheckpointFolder(url), 1, print).latest()
    assert [path.name for path in tmp_path.iterdir()] == ["sllm-checkpoint-of-another"]


def test_a_full_disk_where_the_model_goes_is_said(tmp_path, monkeypatch):
    saved(str(tmp_path), 1, model="weights")

    def full(_descriptor):
        raise OSError("No space left on device")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises((TrainingError, StorageError), match=r"No space left"):
        CheckpointFolder(str(tmp_path)).keep_model(str(tmp_path / "out"))
    assert not list((tmp_path / "out").iterdir())
