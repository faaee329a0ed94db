"""A job is one run with a record: reused, refused, failed, interrupted, resumed."""

import errno
import json
import os
import signal
import socket
import subprocess
import sys

import pytest

from infra.provenance import command_line, user_name
from infra.storage import StorageError
from infra.tracking.store import client_of
from pipeline.errors import ConfigError, TrainingError
from pipeline.lineage import artifact_of, read_record


def status(tracking_uri, run_id):
    return client_of(tracking_uri).get_run(run_id).info.status


def test_a_job_is_one_run_with_a_record(job, tracking_uri):
    record = job()
    run = client_of(tracking_uri).get_run(record.run_id)
    assert run.info.status == "FINISHED"
    assert run.data.metrics == {"loss": 0.5, "final": 0.25}
    history = client_of(tracking_uri).get_metric_history(record.run_id, "loss")
    assert [metric.step for metric in history] == [1]  # the final value makes no second point on the curve
    assert run.data.tags["sllm.output.digest"] == record.output.digest
    assert read_record(job.output) == record
    assert record.metrics == {"final": 0.25, "loss": 0.5} and record.files == {"model.safetensors": 1}
    assert artifact_of(job.output).run_id == record.run_id
    assert record.user == user_name() and record.host == socket.gethostname()
    assert record.command == command_line() != ""


def test_the_same_job_is_reused(job, capsys):
    first = job()
    assert job("ray.num_workers=7") == first  # not a key that decides the result
    assert len(job.calls) == 1
    assert first.run_id in capsys.readouterr().err


def test_another_configuration_is_refused_and_named(job):
    job()
    with pytest.raises(ConfigError, match=r"lm\.train\.steps was 1000, is 5.*--force"):
        job("lm.train.steps=5")
    with pytest.raises(ConfigError, match="of train-lm"):
        job(name="train-vae")
    assert len(job.calls) == 1


def test_another_input_is_refused_and_named(job, tmp_path):
    job()
    (tmp_path / "corpus.txt").write_text("Other text.")
    with pytest.raises(ConfigError, match=r"corpus .*corpus\.txt is new or changed"):
        job()


def test_a_lost_output_is_made_again(job):
    job()
    (job.output / "model.safetensors").unlink()
    job()
    assert len(job.calls) == 2


def test_a_failed_job_resumes_in_its_own_run(job, tracking_uri):
    def fail(run):
        run.log_metrics({"loss": 3.0}, 1)
        (job.output / "checkpoints").mkdir()
        raise TrainingError("diverged at step 1\nmore")

    with pytest.raises(TrainingError):
        job(body=fail)
    unfinished = read_record(job.output)
    assert unfinished is not None and unfinished.finished is None
    assert status(tracking_uri, unfinished.run_id) == "FAILED"
    tags = client_of(tracking_uri).get_run(unfinished.run_id).data.tags
    assert tags["sllm.error"] == "TrainingError: diverged at step 1 more"
    with pytest.raises(ConfigError, match="unfinished"):
        job("lm.train.steps=5")  # its checkpoints are of another configuration
    record = job()
    assert record.run_id == unfinished.run_id and status(tracking_uri, record.run_id) == "FINISHED"
    history = client_of(tracking_uri).get_metric_history(record.run_id, "loss")
    assert [(metric.step, metric.value) for metric in history] == [(1, 3.0)]


def test_a_job_that_failed_before_it_wrote_anything_blocks_no_other(job):
    def fail(run):
        raise ConfigError("a typing error")

    with pytest.raises(ConfigError, match="typing error"):
        job(body=fail)
    assert job("lm.train.steps=5").finished is not None


def test_interrupt_ends_the_run_as_killed(job, tracking_uri):
    def interrupted(run):
        os.kill(os.getpid(), signal.SIGTERM)
        raise AssertionError("not reached")

    before = signal.getsignal(signal.SIGTERM)
    with pytest.raises(KeyboardInterrupt):
        job(body=interrupted)
    record = read_record(job.output)
    assert record is not None and status(tracking_uri, record.run_id) == "KILLED"
    assert signal.getsignal(signal.SIGTERM) == before


def test_reuse_imports_nothing_heavy(job, tmp_path, tracking_uri):
    job()
    code = f"""
import sys
from jobs.runner.execution import run_job
from pipeline.config import load_config
from pipeline.lineage import artifact_of
run_job("train-lm", load_config(None, ["tracking.uri={tracking_uri}"]), sections=["lm", "trunk.config"],
        inputs=[artifact_of("{tmp_path}/corpus.txt")], output="{job.output}", output_kind="model", body=None)
assert not {{"mlflow", "ray", "torch", "pyarrow"}} & sys.modules.keys(), sorted(sys.modules)
"""
    subprocess.run([sys.executable, "-c", code], check=True)


def test_inputs_are_recorded_by_absolute_path(job, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    record = job(inputs=[artifact_of("corpus.txt")])
    assert [artifact.path for artifact in record.inputs] == [str(tmp_path / "corpus.txt")]


@pytest.mark.parametrize("at", [1, 2])
def test_a_record_that_finds_no_space_is_one_line_and_the_job_resumes_later(
    job, tracking_uri, monkeypatch, at
):
    real, count = os.fsync, 0

    def full(descriptor):
        nonlocal count
        count += 1
        if count == at:
            raise OSError(errno.ENOSPC, "No space left on device")
        real(descriptor)

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(
        StorageError, match=r"job\.json cannot be written to .*out: No space left on device; free"
    ):
        job()
    assert not list(job.output.glob(".job.json.*"))
    record = job()
    assert record.finished is not None
    client = client_of(tracking_uri)
    runs = client.search_runs([one.experiment_id for one in client.search_experiments()])
    assert [run.info.run_id for run in runs] == [record.run_id]


def test_a_store_that_cannot_be_reached_costs_no_earlier_result(job, tmp_path):
    job()
    (tmp_path / "file").touch()
    with pytest.raises(ConfigError):
        job("lm.train.steps=5", f"tracking.uri=sqlite:///{tmp_path}/file/mlflow.db", force=True)
    assert (job.output / "model.safetensors").exists()


def test_the_run_of_the_environment_is_said(job, tracking_uri, monkeypatch, capfd):
    client = client_of(tracking_uri)
    given = client.create_run(client.create_experiment("theirs")).info.run_id
    monkeypatch.setenv("MLFLOW_RUN_ID", given)
    assert job().run_id == given
    assert f"logs into MLflow run {given} (MLFLOW_RUN_ID) at sqlite:" in capfd.readouterr().err


def test_a_job_sends_openlineage_events_where_that_is_wanted(job, monkeypatch, tmp_path):
    file = tmp_path / "events.jsonl"
    monkeypatch.chdir(tmp_path)
    (tmp_path / "openlineage.yml").write_text(
        f"transport: {{type: file, log_file_path: {file}, append: true}}"
    )
    record = job("tracking.openlineage=true")
    first, last = map(json.loads, file.read_text().splitlines())
    assert (first["eventType"], last["eventType"]) == ("START", "COMPLETE")
    assert first["run"]["runId"].replace("-", "") == record.run_id
    assert [one["name"] for one in first["inputs"]] == [str(tmp_path / "corpus.txt")]
    (output,) = last["outputs"]
    assert output["name"] == str(job.output)
    assert output["facets"]["version"]["datasetVersion"] == record.output.digest
