"""A tracking store that refuses, or that goes away while a job runs: no work is lost and no password is shown."""

import contextlib
import http.server
import json
import socket
import threading
from pathlib import Path

import pytest

from infra.tracking import metrics as mlflow_metrics
from jobs.cli import app
from jobs.runner.execution import run_job
from pipeline.config import load_config
from pipeline.errors import ConfigError
from pipeline.lineage import read_record

RUN = {
    "info": {
        "run_id": "r" * 32,
        "experiment_id": "1",
        "status": "RUNNING",
        "start_time": 1,
        "artifact_uri": "mlflow-artifacts:/1",
        "lifecycle_stage": "active",
    },
    "data": {},
    "inputs": {},
}
ANSWERS = {
    "experiments/get-by-name": {
        "experiment": {"experiment_id": "1", "name": "sllm", "lifecycle_stage": "active"}
    },
    "runs/create": {"run": RUN},
    "runs/get": {"run": RUN},
    "runs/update": {"run_info": RUN["info"]},
}


class Store:
    """A tracking server that answers as MLflow's does, until it is asked `last`: from then on with an error."""

    def __init__(self, last: str) -> None:
        store = self
        self.is_away = False

        class Handler(http.server.BaseHTTPRequestHandler):
            def log_message(self, *arguments):
                pass

            def do_GET(self):
                self.rfile.read(int(self.headers.get("Content-Length") or 0))
                asked = self.path.partition("?")[0].rpartition("mlflow/")[2]
                store.is_away = store.is_away or asked == last
                content = json.dumps({} if store.is_away else ANSWERS.get(asked, {})).encode()
                self.send_response(500 if store.is_away else 200)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(content)))
                self.end_headers()
                self.wfile.write(content)

            do_POST = do_GET

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        threading.Thread(target=self.server.serve_forever, daemon=True).start()
        self.uri = f"http://me:hunter2@127.0.0.1:{self.server.server_port}"


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    monkeypatch.setattr(mlflow_metrics, "CLOSE_SECONDS", 0.5)


@pytest.fixture
def store():
    with contextlib.ExitStack() as stack:

        def start(last):
            made = Store(last)
            stack.callback(made.server.server_close)
            stack.callback(made.server.shutdown)
            return made

        yield start


def run(output, uri, body):
    config = load_config(None, [f"tracking.uri={uri}", "launcher=local"])
    return run_job(
        "train-lm",
        config,
        sections=["lm"],
        inputs=[],
        output=str(output),
        output_kind="model",
        body=body,
    )


def write(run):
    run.log_metrics({"loss": 0.5, "dev/loss": 0.5}, 1)
    Path(run.output, "model.safetensors").write_text("weights")
    return {"loss": 0.5}


@pytest.mark.parametrize("last", ["metrics/get-history", "logged-models", "runs/update"])
def test_what_a_job_made_outlives_a_store_that_goes_away(last, store, tmp_path, capfd):
    uri = store(last).uri
    record = run(tmp_path / "out", uri, write)
    assert record.finished is not None and read_record(tmp_path / "out") == record
    shown = capfd.readouterr().err
    assert "could not be completed" in shown and "hunter2" not in shown
    assert run(tmp_path / "out", uri, write) == record  # the next command uses it, and asks no store
    assert "reuse" in capfd.readouterr().err


def test_a_store_that_goes_away_at_the_start_is_one_line(store, tmp_path):
    with pytest.raises(ConfigError, match="cannot be used") as caught:
        run(tmp_path / "out", store("runs/log-batch").uri, write)
    assert "hunter2" not in str(caught.value) + "".join(getattr(caught.value, "__notes__", []))


@pytest.mark.parametrize("scheme", ["http", "postgresql", "mysql+pymysql", "sqlite"])
def test_a_store_that_refuses_leaves_no_output(scheme, tmp_path):
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    uri = f"{scheme}://me:hunter2@127.0.0.1:{port}/db"
    if scheme == "sqlite":
        (tmp_path / "file").write_text("")
        uri = f"sqlite:///{tmp_path}/file/mlflow.db"
    with pytest.raises(ConfigError, match="cannot be used") as caught:
        run(tmp_path / "out", uri, write)
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
