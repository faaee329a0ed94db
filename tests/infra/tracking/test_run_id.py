"""MLFLOW_RUN_ID: one job logs into that run, the jobs of a command with several get runs below it."""

import pytest

from infra.tracking.parent import ParentRun, jobs_below
from infra.tracking.run import start_run
from infra.tracking.store import client_of
from pipeline.config import TrackingConfig
from pipeline.errors import ConfigError


@pytest.fixture
def given(tracking_uri, monkeypatch):
    client = client_of(tracking_uri)
    run_id = client.create_run(client.create_experiment("theirs"), run_name="mine").info.run_id
    monkeypatch.setenv("MLFLOW_RUN_ID", run_id)
    return run_id


def stored(tracking_uri, run_id):
    return client_of(tracking_uri).get_run(run_id)


def test_a_job_logs_into_the_run(given, tracking_uri, tmp_path):
    run = start_run(TrackingConfig(uri=tracking_uri), "job", str(tmp_path))
    run.log_start({"lm": {"steps": 3}}, [], {"sllm.job": "train-lm"})
    run.log_metrics({"loss": 1.0}, 1)
    run.end("FINISHED")
    assert run.close() and run.run_id == given
    found = stored(tracking_uri, given)
    assert found.info.run_name == "mine" and found.info.status == "FINISHED"
    assert found.data.metrics == {"loss": 1.0} and found.data.params == {"lm.steps": "3"}


def test_the_jobs_of_one_command_have_runs_below_it(given, tracking_uri, tmp_path):
    config = TrackingConfig(uri=tracking_uri)
    with jobs_below(ParentRun(config, "run", str(tmp_path), lambda run: None)) as command:
        runs = [start_run(config, name, str(tmp_path / name)) for name in "ab"]
    assert command.run is None
    for run in runs:
        assert run.close() and run.run_id != given
        assert stored(tracking_uri, run.run_id).data.tags["mlflow.parentRunId"] == given


def test_a_run_that_does_not_exist_is_refused(tracking_uri, tmp_path, monkeypatch):
    monkeypatch.setenv("MLFLOW_RUN_ID", "0" * 32)
    with pytest.raises(ConfigError, match=r"MLFLOW_RUN_ID=0+: the store has no such run; unset the variable"):
        start_run(TrackingConfig(uri=tracking_uri), "job", str(tmp_path))
    assert list(tmp_path.glob(".tracking*")) == []
