"""Files of a run: beside an SQLite file or on the server; where they cannot be stored, the figures still come."""

import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import mlflow.artifacts
import pytest
import requests

from infra.tracking.run import start_run
from infra.tracking.run_files import RunFiles, _is_away
from infra.tracking.store import client_of
from pipeline.config import TrackingConfig


def run_with_files(uri, output, experiment="sllm"):
    run = start_run(TrackingConfig(uri=uri, experiment=experiment), "job", str(output))
    run.log_text("config.yaml", "a: é\n")
    run.log_text("plots/loss.svg", "<svg/>")
    run.log_text("config.yaml", "a: 2\n")
    run.log_metrics({"loss": 1.0}, 1)
    run.end("FINISHED")
    assert run.close()
    return client_of(uri).get_run(run.run_id)


@pytest.mark.parametrize("experiment", ["sllm", "Default"])
def test_the_files_of_an_sqlite_store_are_beside_it(tmp_path, monkeypatch, experiment):
    work, store = tmp_path / "work", tmp_path / "store"
    work.mkdir()
    monkeypatch.chdir(work)
    stored = run_with_files(f"sqlite:///{store}/mlflow.db", tmp_path / "out", experiment)
    assert list(work.iterdir()) == []
    folder = Path(stored.info.artifact_uri.removeprefix("file://"))
    assert folder.is_relative_to(store / "artifacts")
    assert (folder / "config.yaml").read_text() == "a: 2\n" and (folder / "plots/loss.svg").is_file()


def test_files_that_cannot_be_stored_cost_one_warning_and_no_figure(tracking_uri, tmp_path, caplog):
    (tmp_path / "blocked").write_text("a file where the folder should be")
    client_of(tracking_uri).create_experiment("theirs", artifact_location=f"file://{tmp_path}/blocked/x")
    stored = run_with_files(tracking_uri, tmp_path / "out", "theirs")
    assert stored.info.status == "FINISHED" and stored.data.metrics == {"loss": 1.0}
    assert caplog.text.count("MLflow has no files of this run") == 1


def test_an_answer_is_a_refusal_and_silence_is_not():
    class Broken(BaseHTTPRequestHandler):
        def do_GET(self):
            self.send_error(500)

        def log_message(self, *_):
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Broken) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        address = f"http://127.0.0.1:{server.server_port}"
        with pytest.raises(requests.HTTPError) as answered:
            requests.get(address, timeout=10).raise_for_status()
        server.shutdown()
    with pytest.raises(requests.ConnectionError) as silent:
        requests.get(address, timeout=10)
    assert not _is_away(answered.value) and _is_away(silent.value) and not _is_away(PermissionError())


def test_a_job_that_has_ended_waits_for_no_file(tracking_uri, tmp_path):
    run = start_run(TrackingConfig(uri=tracking_uri), "job", str(tmp_path))
    run.close()

    def ended():
        raise TimeoutError("the job has ended")

    with pytest.raises(TimeoutError):
        RunFiles(tracking_uri, ended, lambda: None).send(client_of(tracking_uri), run.run_id, "a.txt", "a")
    assert mlflow.artifacts.list_artifacts(run_id=run.run_id, tracking_uri=tracking_uri) == []
