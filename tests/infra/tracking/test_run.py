import json
import socket
import sqlite3
import time

import pytest

from infra.tracking.corpus_files import corpus_digest
from infra.tracking.run import start_run
from infra.tracking.store import check_server, check_store, client_of, resolve_experiment, resolve_uri
from pipeline.config import TrackingConfig
from pipeline.errors import ConfigError
from pipeline.lineage import Artifact, JobRecord


@pytest.fixture
def run(tracking_uri, tmp_path):
    return start_run(TrackingConfig(uri=tracking_uri), name="job", output=str(tmp_path / "out"))


@pytest.fixture
def interrupted(run):
    """The record of the job of `run`, which was killed."""
    return record_of(run.run_id)


def record_of(run_id):
    output = Artifact("model", "out", "", run_id)
    return JobRecord("train-lm", "identity", {}, (), output, run_id, {}, {}, "", None)


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


def test_a_resumed_run_has_no_step_twice_and_no_gap(run, tracking_uri, interrupted, tmp_path):
    for step in (1, 2, 4):  # 3 was lost on its way
        run.log_metrics({"loss": float(step)}, step, seconds=1000.0 + step)
    run.close()
    again = start_run(TrackingConfig(uri=tracking_uri), "job", str(tmp_path / "out"), resume=interrupted)
    for step in (2, 3, 4, 5, 5):
        again.log_metrics({"loss": -float(step), "new": 0.0}, step)
    again.close()
    assert again.run_id == run.run_id
    assert sorted(steps_of(run, "loss")) == [(1, 1.0), (2, 2.0), (3, -3.0), (4, 4.0), (5, -5.0)]
    assert [step for step, _ in steps_of(run, "new")] == [2, 3, 4, 5]
    first = client_of(tracking_uri).get_metric_history(run.run_id, "loss")[0]
    assert first.timestamp == 1_001_000


def test_points_of_an_earlier_run_are_left_out(run):
    run.after_step = 3
    for step in (2, 3, 4):
        run.log_metrics({"loss": 1.0}, step)
    run.close()
    assert steps_of(run, "loss") == [(4, 1.0)]


def test_a_server_that_refuses_is_an_error_of_one_line():
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    with pytest.raises(ConfigError, match="cannot be used") as caught:
        check_server(TrackingConfig(uri=f"http://127.0.0.1:{port}", required=True))
    assert len(str(caught.value).splitlines()) == 1
    assert check_server(TrackingConfig(uri=f"http://127.0.0.1:{port}")) == "Connection refused"


def test_a_deleted_experiment_names_the_way_out(tracking_uri, tmp_path):
    config = TrackingConfig(uri=tracking_uri, experiment="mine")
    start_run(config, name="x", output=str(tmp_path)).close()
    client = client_of(tracking_uri)
    client.delete_experiment(client.get_experiment_by_name("mine").experiment_id)
    with pytest.raises(ConfigError, match=r"deleted: .*mlflow experiments restore.*tracking\.experiment"):
        start_run(config, name="x", output=str(tmp_path))


def test_the_environment_counts_where_the_configuration_names_none(tmp_path, monkeypatch):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path}/mine.db")
    monkeypatch.setenv("MLFLOW_EXPERIMENT_NAME", "theirs")
    assert (resolve_uri(None), resolve_experiment(None)) == (f"sqlite:///{tmp_path}/mine.db", "theirs")
    assert (resolve_uri("http://h"), resolve_experiment("ours")) == ("http://h", "ours")
    monkeypatch.delenv("MLFLOW_TRACKING_URI")
    monkeypatch.delenv("MLFLOW_EXPERIMENT_NAME")
    assert resolve_uri(None).endswith("runs/mlflow.db") and resolve_experiment(None) == "sllm"


def test_config_inputs_and_tags_are_stored(run):
    config = {"lm": {"steps": 3}, "tracking": {"uri": "https://me:pass@host/x"}, "notes": "é" * 13000}
    corpus = Artifact("corpus", "/data/a.jsonl", "ab" * 32)
    run.log_start(config, [corpus], {"sllm.job": "prepare"})
    run.close()
    stored = client_of(run.tracking_uri).get_run(run.run_id)
    assert stored.data.params["lm.steps"] == "3"
    assert stored.data.params["tracking.uri"] == "https://***@host/x"
    assert "".join(stored.data.params[key] for key in ("notes", "notes:1", "notes:2")) == "é" * 13000
    assert stored.data.tags["sllm.job"] == "prepare"
    (dataset,) = stored.inputs.dataset_inputs
    assert (dataset.dataset.name, dataset.dataset.digest) == ("a", corpus_digest(["ab" * 32])[:36])
    assert corpus_digest(["ab" * 32]) in dataset.dataset.profile
    assert json.loads(dataset.dataset.source) == {"uri": "/data/a.jsonl", "patterns": ["/data/a.jsonl"]}
    assert {tag.key: tag.value for tag in dataset.tags} == {"mlflow.data.context": "corpus"}
    assert stored.data.tags["sllm.files.a"] == "ababababab"


def test_a_changed_parameter_of_a_resumed_run_is_in_a_tag(tracking_uri, run, interrupted):
    run.log_start({"ray": {"num_workers": 2}, "same": 1}, [], {})
    run.end("KILLED")
    run.close()
    again = start_run(TrackingConfig(uri=tracking_uri), "job", run.output, resume=interrupted)
    again.log_start({"ray": {"num_workers": 4}, "same": 1}, [], {})
    again.close()
    stored = client_of(tracking_uri).get_run(run.run_id)
    assert again.run_id == run.run_id and stored.info.status == "RUNNING"
    assert stored.data.params["ray.num_workers"] == "2"
    resumed = {key: value for key, value in stored.data.tags.items() if key.startswith("resumed.")}
    assert resumed == {"resumed.ray.num_workers": "4"}


def test_a_run_that_is_gone_is_replaced(tracking_uri, tmp_path):
    run = start_run(TrackingConfig(uri=tracking_uri), "job", str(tmp_path), resume=record_of("0" * 32))
    run.close()
    assert run.run_id and run.run_id != "0" * 32


def test_models_are_linked_from_run_to_run(tracking_uri, tmp_path, run):
    model = Artifact("model", str(tmp_path / "lm"), "cd" * 32, run_id=run.run_id)
    run.log_output(model, {"loss": 1.0})
    run.end("FINISHED")
    run.close()
    child = start_run(TrackingConfig(uri=tracking_uri), name="child", output=str(tmp_path / "child"))
    child.log_start({}, [model], {})
    child.close()
    (made,) = client_of(tracking_uri).get_run(run.run_id).outputs.model_outputs
    (read,) = client_of(tracking_uri).get_run(child.run_id).inputs.model_inputs
    assert made.model_id == read.model_id
    assert client_of(tracking_uri).get_run(run.run_id).data.metrics == {"loss": 1.0}


def test_shards_are_an_output_dataset(tracking_uri, run):
    run.log_output(Artifact("shards", "/data/shards", "ef" * 32, run_id=run.run_id), {})
    run.close()
    stored = client_of(tracking_uri).get_run(run.run_id)
    (dataset,) = stored.inputs.dataset_inputs
    tags = {tag.key: tag.value for tag in dataset.tags}
    assert tags == {"mlflow.data.context": "output", "sllm.path": "/data/shards", "sllm.run_id": run.run_id}
    assert stored.data.tags["sllm.output.digest"] == "ef" * 32


def test_a_store_that_cannot_be_used_is_named_without_its_password(tmp_path):
    (tmp_path / "file").write_text("no folder")
    with pytest.raises(ConfigError, match=r"tracking\.uri"):
        start_run(TrackingConfig(uri=f"sqlite:///{tmp_path}/file/m.db"), name="x", output=str(tmp_path))
    with pytest.raises(ConfigError) as caught:
        start_run(TrackingConfig(uri="nosuch://me:hunter2@host/db"), name="x", output=str(tmp_path))
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


def test_an_experiment_opens_as_one_that_trains_models(tracking_uri, run):
    kind = {"mlflow.experimentKind": "custom_model_development"}
    client = client_of(tracking_uri)
    assert kind.items() <= client.get_experiment_by_name("sllm").tags.items()
    client.create_experiment("earlier")
    prompts = client.create_experiment("prompts", tags={"mlflow.experimentKind": "genai_development"})
    for name in ("earlier", "prompts"):
        check_store(TrackingConfig(uri=tracking_uri, experiment=name))
    assert kind.items() <= client.get_experiment_by_name("earlier").tags.items()
    assert client.get_experiment(prompts).tags["mlflow.experimentKind"] == "genai_development"
