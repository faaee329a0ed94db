"""A small model that MLflow has under a name."""

import contextlib
import dataclasses
import shutil
from pathlib import Path

import pytest
from typer.testing import CliRunner

from infra.registry.models import find_model
from infra.tracking.run import start_run
from jobs import evaluate
from jobs.cli import app
from jobs.training import train_lm
from pipeline.config import TrackingConfig, load_config
from pipeline.lineage import read_record

ARTIFACTS = Path(__file__).parents[2] / "artifacts" / "first"
OVERRIDES = ["trunk.config.hidden_size=16", "trunk.config.intermediate_size=32", "lm.loss_tokens=32"]


@pytest.fixture(scope="session")
def project(tmp_path_factory, empty_store):
    """A folder with shards, and a small token-level model that is `models:/lm@champion` of the store in it."""
    root = tmp_path_factory.mktemp("project")
    shutil.copytree(ARTIFACTS / "shards", root / "shards")
    shutil.copy(empty_store, root / "mlflow.db")
    with contextlib.chdir(root):
        train_lm.run(config(root, "output=lm", "lm.train.steps=2"))
        assert sllm("promote", "lm", "--alias", "champion").stdout.strip() == "models:/lm@champion"
    return root


@pytest.fixture(scope="session")
def evaluated(project):
    """The record of an evaluation of that model, by its name."""
    with contextlib.chdir(project):
        return evaluate.run(config(project, "models.lm=models:/lm@champion", "output=scores"))


def config(root, *overrides):
    """The configuration of the small model."""
    given = [f"tracking.uri=sqlite:///{root}/mlflow.db", f"shards={root}/shards", "launcher=local"]
    return load_config(str(ARTIFACTS / "config.yaml"), [*OVERRIDES, *given, *overrides])


def sllm(*arguments):
    """Run the console."""
    ran = CliRunner().invoke(app, arguments, catch_exceptions=False)
    assert ran.exit_code == 0, ran.output
    return ran


def log_sllm(folder, uri):
    """Give the store a run that wrote a small trained sentence-level model -> the name of the model."""
    shutil.copytree(ARTIFACTS / "sllm", folder / "sllm", ignore=shutil.ignore_patterns("checkpoints"))
    record = read_record(folder / "sllm")
    run = start_run(TrackingConfig(uri=uri), "train-sllm", str(folder / "sllm"))
    run.log_start({}, [], {"sllm.job": record.job})
    run.log_output(dataclasses.replace(record.output, run_id=run.run_id), {})
    run.upload_model(record)
    run.end("FINISHED")
    assert run.close()
    return f"models:/{find_model(f'runs:/{run.run_id}', uri).model_id}"
