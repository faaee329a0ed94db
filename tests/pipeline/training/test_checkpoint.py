"""Checkpoints are read by other numbers of ranks than wrote them; what is damaged is never taken for whole."""

import threading

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors import SafetensorError

from pipeline.errors import TrainingError
from pipeline.training.checkpoint import (
    AVERAGE,
    MOMENTS,
    STATE_FILE,
    WEIGHT,
    BackgroundWriter,
    Checkpoint,
    Part,
    newest,
    snapshot,
    write_state,
    writing,
)

KINDS = (WEIGHT, *MOMENTS)


def parameter(kind, name, size):
    return torch.from_numpy(np.random.default_rng([*kind.encode(), *name.encode()]).normal(size=size)).float()


def write(folder, sizes, cuts, step=1):
    """A checkpoint of len(cuts) + 1 ranks, which hold the parameters' elements one after the other."""
    folder.mkdir(parents=True, exist_ok=True)
    world_size = len(cuts) + 1
    total = sum(sizes.values())
    edges = [0, *sorted(cuts), total]
    for rank in reversed(range(world_size)):
        parts, averages, first = [], {}, 0
        for name, size in sizes.items():
            start, end = max(edges[rank] - first, 0), min(edges[rank + 1] - first, size)
            if start < end:
                held = {kind: parameter(kind, name, size)[start:end] for kind in KINDS}
                parts.append(Part(name, (size,), start, held))
                averages[name] = parameter(AVERAGE, name, size)[start:end]
            first += size
        state = {"world_size": world_size, "step": step}
        write_state(folder, snapshot(parts, averages, {}), state, rank)
    return folder


@given(
    sizes=st.lists(st.integers(1, 30), min_size=1, max_size=4),
    cuts=st.lists(st.integers(0, 60), max_size=3),
    data=st.data(),
)
def test_any_run_of_elements_is_read_back(sizes, cuts, data, tmp_path_factory):
    named = {f"layer.{i}": size for i, size in enumerate(sizes)}
    total = sum(sizes)
    folder = write(tmp_path_factory.mktemp("checkpoint"), named, [min(cut, total) for cut in cuts])
    checkpoint = Checkpoint(folder)
    name = data.draw(st.sampled_from(sorted(named)))
    start = data.draw(st.integers(0, named[name] - 1))
    end = data.draw(st.integers(start + 1, named[name]))
    for kind in (*KINDS, AVERAGE):
        expected = parameter(kind, name, named[name])[start:end]
        assert torch.equal(checkpoint.read(kind, name, start, end - start), expected)


def test_missing_elements_are_named(tmp_path):
    checkpoint = Checkpoint(write(tmp_path, {"a": 10}, [4]))
    with pytest.raises(TrainingError, match="lacks weight of a from element 10"):
        checkpoint.read(WEIGHT, "a", 6, 8)
    with pytest.raises(TrainingError, match="lacks weight of b"):
        checkpoint.read(WEIGHT, "b", 0, 1)


@pytest.mark.parametrize("damage", ["missing", "cut short", "no state", "broken state"])
def test_a_damaged_checkpoint_is_refused_and_passed_over(tmp_path, damage):
    whole = write(tmp_path / "step-000000001", {"a": 10, "b": 3}, [4], step=1)
    damaged = write(tmp_path / "step-000000002", {"a": 10, "b": 3}, [4], step=2)
    write(tmp_path / ".step-000000003.partial", {"a": 10}, [], step=3)
    assert newest(tmp_path) == damaged
    second = damaged / "state-00001-of-00002.safetensors"
    if damage == "missing":
        second.unlink()
    elif damage == "cut short":
        second.write_bytes(second.read_bytes()[:-1])
    elif damage == "no state":
        (damaged / STATE_FILE).unlink()
    else:
        (damaged / STATE_FILE).write_text("{")
    with pytest.raises(TrainingError, match="damaged"):
        Checkpoint(damaged)
    assert newest(tmp_path) == whole


def test_rank_0_writes_what_all_ranks_hold():
    held = {kind: torch.ones(3) for kind in KINDS}
    assert snapshot([Part("a", (3,), 0, held, is_copy=True)], {}, {}) == {}


def test_a_snapshot_does_not_change_with_training():
    held = {kind: torch.ones(3) for kind in KINDS}
    tensors = snapshot([Part("a", (3,), 0, held)], {"a": torch.ones(3)}, {})
    for tensor in held.values():
        tensor.zero_()
    assert all(bool(tensor.all()) for tensor in tensors.values())


def test_one_checkpoint_is_written_at_a_time():
    writer, first, log = BackgroundWriter(), threading.Event(), []
    writer.start(lambda: (first.wait(10), log.append(1)))
    assert log == []  # the caller goes on
    threading.Timer(0.05, first.set).start()
    writer.start(lambda: log.append(2))  # waits for the first
    assert log[0] == 1
    writer.wait()
    assert log == [1, 2]


def test_a_failed_write_is_raised_once_by_the_next_call():
    def full():
        raise OSError("No space left on device")

    writer = BackgroundWriter()
    writer.start(full)
    with pytest.raises(TrainingError, match="No space left"):
        writer.start(lambda: None)
    writer.wait()


def test_where_all_are_damaged_nothing_is_passed_over(tmp_path, caplog):
    for step in (1, 2):
        file = (
            write(tmp_path / f"step-{step:09d}", {"a": 10}, [], step=step)
            / "state-00000-of-00001.safetensors"
        )
        file.write_bytes(file.read_bytes()[:-1])
    with pytest.raises(TrainingError, match=r"step-000000002 is damaged.*remove that folder"):
        newest(tmp_path)
    write(tmp_path / "step-000000000", {"a": 10}, [], step=0)
    assert newest(tmp_path) == tmp_path / "step-000000000"
    assert caplog.text.count("passed over") == 2


@pytest.mark.parametrize(
    "error", [OSError("No space left"), RuntimeError("unexpected pos"), SafetensorError("io")]
)
def test_an_error_in_writing_names_the_folder_and_its_free_space(tmp_path, error):
    with (
        pytest.raises(TrainingError, match=r"nowhere could not be written: .*MiB are free there"),
        writing(tmp_path / "nowhere"),
    ):
        raise error
