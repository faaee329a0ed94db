"""An MLflow server that refuses, stalls, is slow or goes away: a job's result and its run are those of an undisturbed
one, and the time that it costs is bounded.

A real MLflow application answers, through a line that the tests cut and hold.
"""

import shutil
import socket
import threading
import time
from pathlib import Path

import pytest

from infra.tracking import operations, sending
from infra.tracking.journal import JOURNAL_NAME
from jobs.cli import app
from jobs.runner.execution import run_job
from pipeline.config import load_config
from pipeline.errors import ConfigError, TrackingError
from pipeline.lineage import artifact_of, read_record
from tests.infra.tracking.mlflow_server import Line, mlflow_app, runs_at, steps_at

POINTS = 40
PATIENCE = 2.0


@pytest.fixture(scope="module")
def server(tmp_path_factory, empty_store):
    """A real server; its store is emptied before each test."""
    file = tmp_path_factory.mktemp("server") / "mlflow.db"
    shutil.copy(empty_store, file)
    with mlflow_app(f"sqlite:///{file}", file.parent / "artifacts") as port:
        yield port


@pytest.fixture
def line(server, monkeypatch):
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_TIMEOUT", "3")
    monkeypatch.setattr(sending, "PAUSE_SECONDS", 0.05)
    monkeypatch.setattr(sending, "MOST_PAUSE_SECONDS", 0.2)
    monkeypatch.setattr(sending, "_LAST_PAUSE_SECONDS", 0.1)
    made = Line(server)
    yield made
    made.refused()


@pytest.fixture
def job(line, tmp_path, request):
    """Run a small job; `during` is called after its first points."""
    (tmp_path / "corpus.txt").write_text("Some text.")
    experiment = request.node.name[-60:]

    def start(*overrides, during=lambda: None, output="out"):
        def body(run):
            for step in range(1, POINTS + 1):
                if step == 11:
                    during()
                run.log_metrics({"loss": 1 / step, "rate": 0.5}, step)
            Path(run.output, "model.safetensors").write_text("weights")
            return {"loss": 1 / POINTS, "final": 3.0}

        given = [f"tracking.uri={line.uri}", f"tracking.experiment={experiment}", "launcher=local"]
        return run_job(
            "train-lm",
            load_config(None, [*given, f"tracking.retry_seconds={PATIENCE}", *overrides]),
            sections=["lm"],
            inputs=[artifact_of(tmp_path / "corpus.txt")],
            output=str(tmp_path / output),
            output_kind="model",
            body=body,
        )

    start.output = tmp_path / "out"
    start.experiment = experiment
    return start


def check_one_whole_run(line, job, record):
    """MLflow has one run with each point once, its parameters, input and output."""
    (stored,) = runs_at(line.uri, job.experiment)
    assert stored.info.status == "FINISHED" and stored.info.run_id == record.run_id == record.output.run_id
    history = steps_at(line.uri, record.run_id, "loss")
    assert history == [(step, 1 / step) for step in range(1, POINTS + 1)]
    assert stored.data.metrics == {"loss": 1 / POINTS, "rate": 0.5, "final": 3.0}
    assert stored.data.params["lm.train.steps"] and stored.data.tags["sllm.job"] == "train-lm"
    assert stored.data.tags["sllm.output.digest"] == record.output.digest
    assert [one.dataset.name for one in stored.inputs.dataset_inputs] == ["corpus"]
    assert len(stored.outputs.model_outputs) == 1
    assert not (job.output / JOURNAL_NAME).exists() and read_record(job.output) == record


def timed(start, *arguments, **options):
    begun = time.monotonic()
    return start(*arguments, **options), time.monotonic() - begun


def later(seconds, do):
    threading.Timer(seconds, do).start()


def test_an_undisturbed_job(line, job, capfd):
    record = job()
    check_one_whole_run(line, job, record)
    said = capfd.readouterr().err
    assert f"starts as MLflow run {record.run_id} of the experiment {job.experiment} at http://***@" in said
    assert "hunter2" not in said and "warning" not in said


@pytest.mark.parametrize("trouble", ["refused", "stalled"])
@pytest.mark.parametrize("when", ["at the start", "in the middle"])
def test_gone_for_good(trouble, when, line, job, capfd, caplog):
    cut = getattr(line, trouble)
    if when == "at the start":
        cut()
        record, seconds = timed(job)
    else:
        record, seconds = timed(job, during=cut)
    print(f"{trouble} {when}: {seconds:.1f} s")
    assert seconds < 3.0 + PATIENCE + 10.0  # a call, what the end waits for, and a busy machine
    assert record.finished and (job.output / "model.safetensors").read_text() == "weights"
    said = capfd.readouterr().err + caplog.text
    assert said.count("does not answer") <= 1 and "hunter2" not in said
    assert "does not answer" in said or (trouble, when) == (
        "stalled",
        "in the middle",
    )  # ended before a timeout
    assert f"{JOURNAL_NAME} keeps the rest, and the same command, started again, sends it" in said
    job()  # the same command, too early
    assert "MLflow still has not got all of run" in capfd.readouterr().err
    line.up()
    record = job()  # the same command again
    said = capfd.readouterr().err
    assert "reuse" in said and f"MLflow now has all of run {record.run_id}" in said
    check_one_whole_run(line, job, record)


@pytest.mark.parametrize("trouble", ["refused", "stalled"])
def test_gone_in_the_middle_and_back(trouble, line, job, caplog):
    def cut():
        getattr(line, trouble)()
        later(1.0, line.up)

    record, _ = timed(job, during=cut)
    check_one_whole_run(line, job, record)
    assert caplog.text.count("does not answer") == caplog.text.count("answers again") <= 1


def test_away_at_the_start_and_back_before_the_end(line, job):
    line.refused()

    def back():
        line.up()
        time.sleep(1.0)

    check_one_whole_run(line, job, job(during=back))


def test_a_slow_store_gets_everything(line, job):
    line.seconds = 0.2
    record, seconds = timed(job)
    print(f"slow (0.2 s a request, {line.requests} requests): {seconds:.1f} s")
    line.seconds = 0.0
    check_one_whole_run(line, job, record)


@pytest.mark.parametrize("when", ["at the start", "in the middle", "slow"])
def test_a_job_that_requires_its_store(when, line, job):
    required = "tracking.required=true"
    if when == "slow":
        line.seconds = 0.15
        record = job(required)
        line.seconds = 0.0
        return check_one_whole_run(line, job, record)
    if when == "at the start":
        line.refused()
        with pytest.raises(ConfigError, match="cannot be used") as caught:
            job(required)
        assert not job.output.exists()
    else:

        def cut():
            line.refused()
            time.sleep(3 * PATIENCE + 10)  # the job is stopped here

        begun = time.monotonic()
        with pytest.raises(TrackingError, match=r"has not answered for \d+ s .*tracking\.required") as caught:
            job(required, during=cut)
        assert time.monotonic() - begun < 3 * PATIENCE + 8
        assert read_record(job.output).finished is None
    message = str(caught.value)
    assert "hunter2" not in message and len(message.splitlines()) == 1
    line.up()
    check_one_whole_run(line, job, job(required))


def test_an_interrupted_job_with_unsent_points_is_one_run(line, job, monkeypatch):
    """The store is away from the start; the job is killed; the next one finds a store."""
    line.refused()

    class KilledError(BaseException):
        pass

    def killed():
        raise KilledError

    def end_thread(sender):
        sender._given_up.set()
        sender._wake.set()
        sender._thread.join()
        return False

    monkeypatch.setattr(sending.Sender, "close", end_thread)  # as SIGKILL: nothing more is sent
    monkeypatch.setattr(sending.Sender, "_send", lambda self: False)
    with pytest.raises(KilledError):
        job(during=killed)
    monkeypatch.undo()
    assert read_record(job.output).run_id == ""
    line.up()
    check_one_whole_run(line, job, job())


def test_a_run_whose_creation_was_not_answered_is_made_once(line, job, monkeypatch):
    real, answers = operations.client_of, iter([False])

    def losing_an_answer(uri):
        client = real(uri)
        create = client.create_run

        def create_run(*arguments, **options):
            made = create(*arguments, **options)
            if next(answers, True):
                return made
            raise ConnectionError("the answer was lost")

        monkeypatch.setattr(client, "create_run", create_run)
        return client

    monkeypatch.setattr(operations, "client_of", losing_an_answer)
    record = job()
    check_one_whole_run(line, job, record)


@pytest.mark.parametrize("scheme", ["http", "postgresql", "mysql+pymysql", "sqlite"])
def test_a_required_store_that_refuses_leaves_no_output(scheme, tmp_path):
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    uri = f"{scheme}://me:hunter2@127.0.0.1:{port}/db"
    if scheme == "sqlite":
        (tmp_path / "file").write_text("")
        uri = f"sqlite:///{tmp_path}/file/mlflow.db"
    config = load_config(None, [f"tracking.uri={uri}", f"tracking.required={scheme != 'sqlite'}"])
    output = str(tmp_path / "out")
    with pytest.raises(ConfigError, match="cannot be used") as caught:
        run_job(
            "train-lm",
            config,
            sections=["lm"],
            inputs=[],
            output=output,
            output_kind="model",
            body=lambda _: {},
        )
    message = str(caught.value)
    assert "hunter2" not in message and len(message.splitlines()) == 1
    assert scheme in ("http", "sqlite") or "refused" in message  # no driver, and no minutes of tries
    assert not (tmp_path / "out").exists()


def test_a_traceback_shows_no_password(tmp_path, monkeypatch):
    """Of an error that is no user's mistake, too."""
    from typer.testing import CliRunner

    def broken(*_arguments, **_options):
        raise RuntimeError("lost http://me:hunter2@h/a?sig=hunter2")

    monkeypatch.setattr("jobs.prepare.run", broken)
    result = CliRunner().invoke(app, ["prepare", f"output={tmp_path}/out"])
    assert result.exit_code == 1 and "RuntimeError: lost http://***@h/a?***" in result.stderr
    assert "hunter2" not in result.output
