from pathlib import Path

import pytest

from infra.checkpoints.folder import CheckpointFolder
from infra.local_training import LocalRuntime
from pipeline.errors import TrainingError


def write(folder: Path) -> None:
    (folder / "training_state.json").write_text("{}")
    (folder / "state-00000-of-00001.safetensors").write_text("weights")
    (folder / "model").mkdir()
    (folder / "model" / "config.json").write_text("{}")


def test_older_checkpoints_go_and_what_others_put_there_stays(tmp_path: Path) -> None:
    (tmp_path / "precious").mkdir()
    write(tmp_path / "precious")
    checkpoints = tmp_path / "checkpoints"
    (checkpoints / "step-000000001-best").mkdir(parents=True)
    write(checkpoints / "step-000000001-best")
    (checkpoints / "step-000000000").symlink_to("../precious")
    (checkpoints / "step-latest").symlink_to("step-000000003")
    (checkpoints / "step-notes.txt").write_text("mine")
    runtime = LocalRuntime(CheckpointFolder(str(checkpoints)), keep=2, report=lambda _metrics: None)
    for step in range(1, 5):
        runtime.save(step, write, background=False)
        if step == 1:
            (checkpoints / "step-000000001" / "notes.txt").write_text("mine")
    assert runtime.checkpoints.names() == ["step-000000004", "step-000000003"]
    assert [path.name for path in (checkpoints / "step-000000001").iterdir()] == ["notes.txt"]
    assert sorted(path.name for path in checkpoints.iterdir()) == [
        "step-000000000", "step-000000001", "step-000000001-best", "step-000000003", "step-000000004",
        "step-latest", "step-notes.txt",
    ]  # fmt: skip
    assert (tmp_path / "precious" / "model" / "config.json").exists()


def test_a_link_where_a_checkpoint_goes_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "precious").mkdir()
    (tmp_path / "checkpoints").mkdir()
    (tmp_path / "checkpoints" / "step-000000001").symlink_to("../precious")
    runtime = LocalRuntime(
        CheckpointFolder(str(tmp_path / "checkpoints")), keep=2, report=lambda _metrics: None
    )
    with pytest.raises(TrainingError, match="move it away"):
        runtime.save(1, write, background=False)
    assert not list((tmp_path / "precious").iterdir())
