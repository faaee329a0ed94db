"""A model that is not there is named by its path, and nothing is said of a hub or a configuration."""

import pytest
from typer.testing import CliRunner

from jobs import evaluate, export, generate
from jobs.cli import app
from jobs.training import train_lm, train_sllm, train_vae
from pipeline.config import load_config
from pipeline.errors import ModelError
from pipeline.models.model_folder import read_config


@pytest.fixture
def config(tmp_path):
    (tmp_path / "shards").mkdir()
    (tmp_path / "shards" / "manifest.json").write_text("{}")

    def config(*overrides):
        given = [f"shards={tmp_path}/shards", f"output={tmp_path}/out", "sllm.trunk_from=config"]
        return load_config(None, [*given, *overrides])

    return config


@pytest.mark.parametrize(
    ("job", "kind"),
    [
        *((evaluate, "lm"), (evaluate, "vae"), (evaluate, "sllm"), (generate, "sllm")),
        *((train_lm, "lm"), (train_vae, "lm"), (train_vae, "vae"), (train_sllm, "vae"), (train_sllm, "sllm")),
    ],
)
def test_a_job_that_reads_it(job, kind, config, tmp_path):
    with pytest.raises(ModelError) as raised:
        job.run(config(f"models.{kind}={tmp_path}/none"))
    message = str(raised.value)
    assert (
        message.startswith(f"there is no model at {tmp_path}/none: name the folder") and "hub" not in message
    )
    assert not (tmp_path / "out").exists()


def test_a_checkpoint(tmp_path):
    with pytest.raises(ModelError, match=f"there is no checkpoint at {tmp_path}/none: name its folder"):
        export.run(str(tmp_path / "none"), [f"output={tmp_path}/out"])


def test_a_folder_without_a_model(tmp_path):
    with pytest.raises(ModelError, match=r"no model at .*: the folder has no config\.json"):
        read_config(str(tmp_path))


def test_a_relative_path_may_be_a_name_on_the_hub(tmp_path, monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(
        ModelError, match="no model at runs/none: it is no folder, and as a name on the hub: "
    ):
        read_config("runs/none")


def test_a_folder_named_on_the_command_line(tmp_path):
    result = CliRunner().invoke(app, ["generate", str(tmp_path / "none")])
    assert result.exit_code == 2 and f"there is no model at {tmp_path}/none" in result.stderr
