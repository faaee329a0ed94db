"""Checkpoints are read by other numbers of ranks than wrote them; what is damaged is never taken for whole."""

import threading

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors import SafetensorError

from pipeline.errors import TrainingError
from pipeline.training.checkpoint import (
    AVERAGE,
    WEIGHT,
    BackgroundWriter,
    Checkpoint,
    Part,
    snapshot,
    writing,
)
from tests.pipeline.training.small_checkpoint import KINDS, parameter, write


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


@pytest.mark.parametrize(
    "error", [OSError("No space left"), RuntimeError("unexpected pos"), SafetensorError("io")]
)
def test_an_error_in_writing_names_the_folder_and_its_free_space(tmp_path, error):
    with (
        pytest.raises(TrainingError, match=r"nowhere could not be written: .*MiB are free there"),
        writing(tmp_path / "nowhere"),
    ):
        raise error
