import dataclasses
import errno
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from infra.mlflow_store import client_of
from infra.storage import StorageError
from jobs.runner.execution import run_job
from pipeline.config import load_config
from pipeline.errors import ConfigError, TrainingError
from pipeline.lineage import artifact_of, read_record, write_record


@pytest.fixture
def job(tmp_path, tracking_uri):
    """Run a small job that writes one file; further arguments change it."""
    (tmp_path / "corpus.txt").write_text("Some text.")
    output = tmp_path / "out"
    calls = []

    def write(run):
        calls.append(run.run_id)
        run.log_metrics({"loss": 0.5}, 1)
        Path(run.output, "model.safetensors").write_text("w" * len(calls))
        return {"final": 0.25, "loss": 0.5}

    def start(*overrides, body=write, force=False, name="train-lm", inputs=None):
        return run_job(
            name,
            load_config(None, [f"tracking.uri={tracking_uri}", *overrides]),
            sections=["lm", "trunk.config"],
            inputs=[artifact_of(tmp_path / "corpus.txt")] if inputs is None else inputs,
            output=str(output),
            output_kind="model",
            body=body,
            force=force,
        )

    start.calls, start.output = calls, output
    return start


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


def test_force_replaces_what_the_job_wrote_and_nothing_else(job):
    first = job()
    (job.output / "mine.txt").write_text("a person's")
    (job.output / "checkpoints").mkdir()
    seen = []

    def look(run):
        seen.extend(path.name for path in Path(run.output).iterdir())
        return {}

    second = job("lm.train.steps=5", force=True, body=look)
    assert sorted(seen) == [".lock", "job.json", "mine.txt"]
    assert second.run_id != first.run_id


def test_a_lost_output_is_made_again(job):
    job()
    (job.output / "model.safetensors").unlink()
    job()
    assert len(job.calls) == 2


def test_a_failed_job_goes_on_in_its_own_run(job, tracking_uri):
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


def test_a_job_that_failed_before_it_wrote_anything_is_in_nobodys_way(job):
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


def test_a_url_is_no_output(tracking_uri):
    with pytest.raises(ConfigError, match="folder"):
        run_job(
            "x",
            load_config(None),
            sections=[],
            inputs=[],
            output="s3://b/x",
            output_kind="model",
            body=lambda _: {},
        )


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


def test_an_input_inside_the_output_is_no_part_of_it(job):
    """`prepare` puts the documentation corpus into its own output, then reads it."""
    corpus = job.output / "corpus" / "docs.jsonl"
    corpus.parent.mkdir(parents=True)
    corpus.write_text("{}")
    inputs = [artifact_of(corpus)]
    record = job(inputs=inputs)
    assert record.files == {"model.safetensors": 1}
    job("lm.train.steps=5", inputs=inputs, force=True)
    assert corpus.is_file()


def test_inputs_are_recorded_by_absolute_path(job, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    record = job(inputs=[artifact_of("corpus.txt")])
    assert [artifact.path for artifact in record.inputs] == [str(tmp_path / "corpus.txt")]


def test_two_jobs_never_write_to_one_folder(job):
    def meanwhile(run):
        with pytest.raises(ConfigError, match="another job is writing to"):
            job()
        return {}

    job(body=meanwhile)
    assert job.calls == []


def test_an_output_that_cannot_be_written_is_an_error_of_one_line(job, tmp_path):
    job.output.write_text("a file")
    with pytest.raises(ConfigError, match="out"):
        job()


def disk(folder):
    """All that is below a folder, links not followed."""
    found = {}
    for path in sorted(Path(folder).rglob("*")):
        name = str(path.relative_to(folder))
        if path.is_symlink():
            found[name] = f"-> {path.readlink()}"
        elif path.is_file() and path.name not in ("job.json", ".lock"):
            found[name] = path.read_bytes()
    return found


@pytest.mark.parametrize("at", [1, 2])
def test_a_record_that_finds_no_space_is_one_line_and_goes_on_later(job, monkeypatch, at):
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
    assert job().finished is not None


def test_what_was_there_before_is_refused_then_left_and_never_listed(job, tmp_path):
    (tmp_path / "precious").mkdir()
    (tmp_path / "precious" / "model.safetensors").write_text("precious")
    job.output.mkdir()
    (job.output / "notes.txt").write_text("mine")
    (job.output / "link").symlink_to("../precious")
    (job.output / "here").symlink_to(".")
    (job.output / "there").symlink_to(".")
    before = disk(job.output)
    with pytest.raises(
        ConfigError, match=r"holds here, link, notes\.txt, .*which no job of ours wrote.*--force"
    ):
        job()
    assert disk(job.output) == before and not job.calls and not (job.output / "job.json").exists()
    assert job(force=True).files == {"model.safetensors": 1}
    assert job() and len(job.calls) == 1  # the same job again is not asked to say so again
    record = job("lm.train.steps=5", force=True)
    assert record.files == {"model.safetensors": 2}
    assert disk(job.output) == {**before, "model.safetensors": b"ww"}
    assert (tmp_path / "precious" / "model.safetensors").read_text() == "precious"


@pytest.mark.parametrize("force", [False, True])
def test_nothing_is_written_over_or_through_a_link(job, tmp_path, force):
    (tmp_path / "precious").write_text("precious")
    job.output.mkdir()
    (job.output / "model.safetensors").symlink_to("../precious")
    with pytest.raises(
        ConfigError, match=r"holds model\.safetensors, which no job of ours wrote.*move it away"
    ):
        job(force=force)
    (job.output / "model.safetensors").unlink()
    (job.output / "model.safetensors").write_text("of another program")
    with pytest.raises(ConfigError, match="move it away"):
        job(force=force)
    assert (job.output / "model.safetensors").read_text() == "of another program"
    assert (tmp_path / "precious").read_text() == "precious"


def test_an_old_record_that_lists_too_much_removes_no_more(job):
    """Records once listed all that lay in the folder, also behind links."""
    record = job()
    (job.output / "notes.txt").write_text("mine")
    (job.output.parent / "precious").mkdir()
    (job.output.parent / "precious" / "config.json").write_text("{}")
    (job.output / "link").symlink_to("../precious")
    files = {**record.files, "notes.txt": 4, "link/config.json": 2}
    outside = {**files, "../precious/config.json": 2}  # no version listed such a name
    write_record(job.output, dataclasses.replace(record, files=outside))
    with pytest.raises(ConfigError, match="is not in the folder"):
        job("lm.train.steps=5", force=True)
    write_record(job.output, dataclasses.replace(record, files=files))
    job("lm.train.steps=5", force=True)
    assert (job.output / "notes.txt").exists() and (job.output.parent / "precious" / "config.json").exists()


def test_after_an_interruption_force_leaves_what_was_put_there_since(job):
    def fail(run):
        (job.output / "model.safetensors").write_text("half")
        (job.output / "checkpoints" / "step-000000001").mkdir(parents=True)
        (job.output / "checkpoints" / "step-000000001" / "training_state.json").write_text("{}")
        raise TrainingError("diverged")

    with pytest.raises(TrainingError):
        job(body=fail)
    (job.output / "notes.txt").write_text("mine")
    (job.output / "checkpoints" / "best").mkdir()
    (job.output / "checkpoints" / "best" / "readme").write_text("mine")
    seen = []
    job("lm.train.steps=5", force=True, body=lambda run: seen.extend(disk(job.output)) or {})
    assert seen == ["checkpoints/best/readme", "notes.txt"]


def test_checkpoints_of_another_run_are_not_gone_on_from(job):
    (job.output / "checkpoints" / "step-000000001").mkdir(parents=True)
    (job.output / "checkpoints" / "step-000000001" / "training_state.json").write_text("{}")
    for force in (False, True):
        with pytest.raises(ConfigError, match="checkpoints/step-000000001"):
            job(force=force)


def test_an_output_may_be_a_link_to_a_folder(job, tmp_path):
    (tmp_path / "disk").mkdir()
    job.output.symlink_to("disk")
    assert job().files == {"model.safetensors": 1}
    job("lm.train.steps=5", force=True)
    assert job.output.is_symlink() and (tmp_path / "disk" / "model.safetensors").read_text() == "ww"


def test_a_store_that_cannot_be_reached_costs_no_earlier_result(job, tmp_path):
    job()
    (tmp_path / "file").touch()
    with pytest.raises(ConfigError):
        job("lm.train.steps=5", f"tracking.uri=sqlite:///{tmp_path}/file/mlflow.db", force=True)
    assert (job.output / "model.safetensors").exists()
