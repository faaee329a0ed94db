import contextlib
import pickle
import socket
import sqlite3
import time

import pytest

from infra.tracking import metrics as mlflow_metrics
from infra.tracking.metrics import MetricsLogger
from infra.tracking.run import attach, start_run
from infra.tracking.store import check_server, check_store, client_of, resolve_experiment, resolve_uri
from pipeline.config import TrackingConfig
from pipeline.errors import ConfigError
from pipeline.lineage import Artifact


@pytest.fixture
def run(tracking_uri, tmp_path):
    return start_run(TrackingConfig(uri=tracking_uri), name="job", output=str(tmp_path / "out"))


def steps_of(run, key):
    return [(m.step, m.value) for m in client_of(run.tracking_uri).get_metric_history(run.run_id, key)]


def test_relative_sqlite_becomes_absolute(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert resolve_uri("sqlite:///runs/mlflow.db") == f"sqlite:///{tmp_path}/runs/mlflow.db"
    assert resolve_uri(f"sqlite:///{tmp_path}/m.db") == f"sqlite:///{tmp_path}/m.db"
    assert resolve_uri("https://mlflow.example") == "https://mlflow.example"


def test_the_store_and_its_artifacts_are_side_by_side(run, tmp_path):
    assert (tmp_path / "mlflow.db").is_file()
    location = client_of(run.tracking_uri).get_run(run.run_id).info.artifact_uri
    assert location.startswith((tmp_path / "artifacts").as_uri())


def test_metrics_are_all_stored_when_the_run_closes(run):
    for step in range(1, 2501):
        run.log_metrics({"loss": 1 / step, "rate": 0.5}, step)
    run.close()
    assert steps_of(run, "loss") == [(step, 1 / step) for step in range(1, 2501)]
    assert len(steps_of(run, "rate")) == 2500


def test_a_resumed_run_logs_no_step_twice(run):
    with attach(run.tracking_uri, run.run_id) as first:
        for step in (1, 2, 3):
            first.log_metrics({"loss": float(step)}, step)
    with attach(run.tracking_uri, run.run_id) as second:
        for step in (2, 3, 4):
            second.log_metrics({"loss": float(step), "new": 0.0}, step)
    assert [step for step, _ in steps_of(run, "loss")] == [1, 2, 3, 4]
    assert [step for step, _ in steps_of(run, "new")] == [2, 3, 4]


def test_metrics_outlive_a_store_that_is_away_for_a_while(run, monkeypatch, caplog):
    client = client_of(run.tracking_uri)
    real, failures = client.log_batch, iter([True, True])

    def flaky(*arguments, **options):
        if next(failures, False):
            raise ConnectionError("away")
        return real(*arguments, **options)

    monkeypatch.setattr(client, "log_batch", flaky)
    monkeypatch.setattr(mlflow_metrics.time, "sleep", lambda _seconds: None)
    logger = MetricsLogger(lambda: client, run.run_id)
    logger.log_metrics({"loss": 1.0}, 1)
    logger.close()
    assert steps_of(run, "loss") == [(1, 1.0)]
    assert caplog.text.count("metrics are kept until it can") == 1


def test_what_waits_for_a_store_is_bounded(monkeypatch, caplog):
    monkeypatch.setattr(mlflow_metrics, "MAX_WAITING", 10)
    monkeypatch.setattr(mlflow_metrics, "CLOSE_SECONDS", 0.5)

    def away():
        raise ConnectionError("away")

    logger = MetricsLogger(away, "run")
    for step in range(100):
        logger.log_metrics({"loss": 1.0}, step)
    assert len(logger._waiting) == 10
    logger.close()
    assert "100 metric values of run run could not be stored" in caplog.text


@pytest.mark.parametrize("answers", ["refused", "never"])
def test_a_store_that_is_gone_costs_training_no_time(answers, monkeypatch, caplog):
    """Neither the port of a server that has gone nor one that takes connections and never answers."""
    monkeypatch.setattr(mlflow_metrics, "CLOSE_SECONDS", 1.0)
    monkeypatch.setattr(mlflow_metrics, "_FLUSH_SECONDS", 0.01)
    listener = socket.create_server(("127.0.0.1", 0))
    port = listener.getsockname()[1]
    if answers == "refused":
        listener.close()
    with contextlib.closing(listener):
        logger = attach(f"http://127.0.0.1:{port}", "run")
        start = time.monotonic()
        for step in range(1000):
            logger.log_metrics({"train/loss": 1.0, f"dev/{step}": 2.0}, step)
        assert time.monotonic() - start < 30.0  # a call to the store takes seconds, and there would be 1,000
        logger.close()
        assert time.monotonic() - start < 60.0
    assert "2000 metric values" in caplog.text


def test_a_server_that_refuses_is_an_error_of_one_line():
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    with pytest.raises(ConfigError, match="cannot be used") as caught:
        check_server(TrackingConfig(uri=f"http://127.0.0.1:{port}"))
    assert len(str(caught.value).splitlines()) == 1


def test_a_deleted_experiment_names_the_way_out(tracking_uri):
    config = TrackingConfig(uri=tracking_uri, experiment="mine")
    start_run(config, name="x", output="out")
    client = client_of(tracking_uri)
    client.delete_experiment(client.get_experiment_by_name("mine").experiment_id)
    with pytest.raises(ConfigError, match=r"deleted: .*mlflow experiments restore.*tracking\.experiment"):
        start_run(config, name="x", output="out")


def test_the_environment_counts_where_the_configuration_names_none(tmp_path, monkeypatch):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path}/mine.db")
    monkeypatch.setenv("MLFLOW_EXPERIMENT_NAME", "theirs")
    assert (resolve_uri(None), resolve_experiment(None)) == (f"sqlite:///{tmp_path}/mine.db", "theirs")
    assert (resolve_uri("http://h"), resolve_experiment("ours")) == ("http://h", "ours")
    monkeypatch.delenv("MLFLOW_TRACKING_URI")
    monkeypatch.delenv("MLFLOW_EXPERIMENT_NAME")
    assert resolve_uri(None).endswith("runs/mlflow.db") and resolve_experiment(None) == "sllm"


def test_an_active_run_pickles_into_a_worker(run):
    run.log_metrics({"loss": 1.0}, 1)  # the thread that sends must not travel
    copy = pickle.loads(pickle.dumps(run))  # noqa: S301 - what Ray does to it
    copy.log_metrics({"other": 2.0}, 1)
    copy.close()
    run.close()
    assert (copy.run_id, copy.output) == (run.run_id, run.output)
    assert steps_of(run, "loss") == [(1, 1.0)] and steps_of(run, "other") == [(1, 2.0)]


def test_config_inputs_and_tags_are_stored(run):
    config = {"lm": {"steps": 3}, "tracking": {"uri": "https://me:pass@host/x"}, "notes": "é" * 13000}
    corpus = Artifact("corpus", "/data/a.jsonl", "ab" * 32)
    run.log_start(config, [corpus], {"sllm.job": "prepare"})
    stored = client_of(run.tracking_uri).get_run(run.run_id)
    assert stored.data.params["lm.steps"] == "3"
    assert stored.data.params["tracking.uri"] == "https://***@host/x"
    assert "".join(stored.data.params[key] for key in ("notes", "notes:1", "notes:2")) == "é" * 13000
    assert stored.data.tags["sllm.job"] == "prepare"
    (dataset,) = stored.inputs.dataset_inputs
    assert dataset.dataset.digest == ("ab" * 32)[:36]
    assert "ab" * 32 in dataset.dataset.profile
    assert {tag.key: tag.value for tag in dataset.tags} == {"mlflow.data.context": "corpus"}


def test_a_changed_parameter_of_a_resumed_run_is_in_a_tag(tracking_uri, run):
    run.log_start({"ray": {"num_workers": 2}, "same": 1}, [], {})
    run.end("KILLED")
    again = start_run(TrackingConfig(uri=tracking_uri), name="job", output="out", resume=run.run_id)
    again.log_start({"ray": {"num_workers": 4}, "same": 1}, [], {})
    stored = client_of(tracking_uri).get_run(run.run_id)
    assert again.run_id == run.run_id and stored.info.status == "RUNNING"
    assert stored.data.params["ray.num_workers"] == "2"
    resumed = {key: value for key, value in stored.data.tags.items() if key.startswith("resumed.")}
    assert resumed == {"resumed.ray.num_workers": "4"}


def test_a_run_that_is_gone_is_replaced(tracking_uri):
    run = start_run(TrackingConfig(uri=tracking_uri), name="job", output="out", resume="0" * 32)
    assert run.run_id != "0" * 32


def test_models_are_linked_from_run_to_run(tracking_uri, tmp_path, run):
    model = Artifact("model", str(tmp_path / "lm"), "cd" * 32, run_id=run.run_id)
    run.log_output(model, {"loss": 1.0})
    run.end("FINISHED")
    child = start_run(TrackingConfig(uri=tracking_uri), name="child", output="out")
    child.log_start({}, [model], {})
    (made,) = client_of(tracking_uri).get_run(run.run_id).outputs.model_outputs
    (read,) = client_of(tracking_uri).get_run(child.run_id).inputs.model_inputs
    assert made.model_id == read.model_id
    assert client_of(tracking_uri).get_run(run.run_id).data.metrics == {"loss": 1.0}


def test_shards_are_an_output_dataset(tracking_uri, run):
    run.log_output(Artifact("shards", "/data/shards", "ef" * 32, run_id=run.run_id), {})
    stored = client_of(tracking_uri).get_run(run.run_id)
    (dataset,) = stored.inputs.dataset_inputs
    assert [tag.value for tag in dataset.tags] == ["output"]
    assert stored.data.tags["sllm.output.digest"] == "ef" * 32


def test_a_store_that_cannot_be_used_is_named_without_its_password(tmp_path):
    (tmp_path / "file").write_text("no folder")
    with pytest.raises(ConfigError, match=r"tracking\.uri"):
        start_run(TrackingConfig(uri=f"sqlite:///{tmp_path}/file/m.db"), name="x", output="out")
    with pytest.raises(ConfigError) as caught:
        start_run(TrackingConfig(uri="nosuch://me:hunter2@host/db"), name="x", output="out")
    assert "hunter2" not in str(caught.value)


def test_a_file_that_is_no_store_is_refused_at_once(tmp_path, monkeypatch):
    (tmp_path / "text.db").write_text("This is some text and no database. " * 100)
    (tmp_path / "mine.db").touch()
    monkeypatch.setattr("os.access", lambda path, mode: not str(path).endswith("mine.db"))
    begun = time.monotonic()
    for name, message in (
        ("", "it is a folder; name a file in it"),
        ("text.db", "file is not a database"),
        ("mine.db", "cannot be written; change the permissions"),
    ):
        with pytest.raises(ConfigError, match=rf"the MLflow store .*cannot be used: .*{message}"):
            check_store(TrackingConfig(uri=f"sqlite:///{tmp_path / name}"))
    assert time.monotonic() - begun < 10


def test_the_store_is_made_before_any_worker_opens_it(run, tmp_path):
    with sqlite3.connect(tmp_path / "mlflow.db") as database:
        tables = {name for (name,) in database.execute("select name from sqlite_master where type = 'table'")}
    database.close()
    assert {"runs", "experiments", "logged_models"} <= tables
