"""A real MLflow server for tests, and a connection to it that can be refused, stalled or slow."""

import contextlib
import logging
import os
import socket
import subprocess
import sys
import threading
import time
import urllib.request
import warnings

import pytest

from infra.tracking.store import client_of
from tests.ports import free_ports

STARTS_WITHIN = 300.0


@contextlib.contextmanager
def mlflow_server(store, folder, python=sys.executable):
    """A process of `mlflow server` with one worker on `store`: its port and its process group."""
    (port,) = free_ports(1)
    command = [python, "-m", "mlflow", "server", "--backend-store-uri", store, "--workers", "1"]
    command += ["--host", "127.0.0.1", "--port", str(port), "--artifacts-destination", str(folder)]
    environment = {**os.environ, "MLFLOW_DISABLE_TELEMETRY": "true", "PYTHONWARNINGS": "ignore"}
    with (folder / "server.log").open("wb") as log:
        server = subprocess.Popen(command, stdout=log, stderr=log, env=environment, start_new_session=True)
    try:
        until = time.monotonic() + STARTS_WITHIN
        while True:
            try:
                with urllib.request.urlopen(f"http://127.0.0.1:{port}/health", timeout=5):
                    break
            except OSError:
                assert server.poll() is None and time.monotonic() < until, (folder / "server.log").read_text()
                time.sleep(0.2)
        yield port, server.pid
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(server.pid, 18)  # SIGCONT: a stopped process cannot end
            os.killpg(server.pid, 15)
        try:
            server.wait(10)
        except subprocess.TimeoutExpired:
            os.killpg(server.pid, 9)
            server.wait()


@contextlib.contextmanager
def mlflow_app(store, artifacts=None):
    """MLflow's server application on `store` in a thread of this process, which starts faster: its port. It keeps files
    in the folder `artifacts`, if there is one."""
    from mlflow.server import (
        ARTIFACT_ROOT_ENV_VAR,
        ARTIFACTS_DESTINATION_ENV_VAR,
        BACKEND_STORE_URI_ENV_VAR,
        SERVE_ARTIFACTS_ENV_VAR,
        app,
        handlers,
    )
    from mlflow.tracking._model_registry import utils as registry_utils
    from werkzeug.serving import make_server

    with warnings.catch_warnings(action="ignore"):  # MLflow imports it when it answers
        import mlflow.server.fastapi_app  # noqa: F401

    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(BACKEND_STORE_URI_ENV_VAR, store)
        patch.setenv(ARTIFACT_ROOT_ENV_VAR, "mlflow-artifacts:/")
        if artifacts is not None:
            patch.setenv(ARTIFACTS_DESTINATION_ENV_VAR, str(artifacts))
            patch.setenv(SERVE_ARTIFACTS_ENV_VAR, "true")
        patch.setattr(registry_utils, "_registry_uri", None)
        for name in ("_tracking_store", "_model_registry_store", "_artifact_repo"):
            patch.setattr(handlers, name, None)
        logging.getLogger("werkzeug").setLevel(logging.ERROR)
        server = make_server("127.0.0.1", 0, app, threaded=True)
        server.daemon_threads = True
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        try:
            first = f"http://127.0.0.1:{server.server_port}/api/2.0/mlflow/experiments/get?experiment_id=0"
            urllib.request.urlopen(first, timeout=60).close()
            os.environ.pop("MLFLOW_TRACKING_URI", None)  # MLflow's server has set it
            yield server.server_port
        finally:
            os.environ.pop("MLFLOW_REGISTRY_URI", None)  # the server sets it when a model is asked for
            server.shutdown()
            server.server_close()
            thread.join()


class Line:
    """A line to a server that a test can cut (`refused`), hold (`stalled`) or make slow (seconds per request)."""

    def __init__(self, port):
        self._server, (self.port,) = port, free_ports(1)
        self.uri = f"http://me:hunter2@127.0.0.1:{self.port}"
        self.seconds = 0.0
        self.requests = 0
        self._open: set[socket.socket] = set()
        self._flows = threading.Event()
        self._flows.set()
        self._listener: socket.socket | None = None
        self.up()

    def up(self):
        """Answer again."""
        self._flows.set()
        if self._listener is None:
            self._listener = socket.create_server(("127.0.0.1", self.port), backlog=64)
            threading.Thread(target=self._accept, args=(self._listener,), daemon=True).start()

    def refused(self):
        """Refuse connections, and end those that are open."""
        self._flows.set()
        if self._listener is not None:
            self._listener.shutdown(socket.SHUT_RDWR)
            self._listener.close()
            self._listener = None
        for one in list(self._open):
            with contextlib.suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)

    def stalled(self):
        """Take connections and requests, and answer none."""
        self._flows.clear()

    def _accept(self, listener):
        while True:
            try:
                client, _ = listener.accept()
                server = socket.create_connection(("127.0.0.1", self._server))
            except OSError:
                return
            for one, other, is_request in ((client, server, True), (server, client, False)):
                threading.Thread(target=self._pump, args=(one, other, is_request), daemon=True).start()

    def _pump(self, source, sink, is_request):
        self._open.add(source)
        with contextlib.suppress(OSError):
            while data := source.recv(2**16):
                if is_request and data[:5] in (b"GET /", b"POST ", b"PATCH"):
                    self.requests += 1
                    time.sleep(self.seconds)
                self._flows.wait()
                sink.sendall(data)
        self._open.discard(source)
        for one in (source, sink):
            with contextlib.suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)
        source.close()


def runs_at(uri, experiment="sllm"):
    """All runs of an experiment."""
    client = client_of(uri)
    found = client.get_experiment_by_name(experiment)
    return [] if found is None else client.search_runs([found.experiment_id])


def steps_at(uri, run_id, key):
    """Steps and values of a metric, in the order of the steps."""
    history = client_of(uri).get_metric_history(run_id, key)
    return sorted((metric.step, metric.value) for metric in history)
