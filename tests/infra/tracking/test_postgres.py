"""A real MLflow server on PostgreSQL: concurrent jobs, and a server that is stopped, and killed."""

import os
import signal
import threading
import time

import pytest

from infra.tracking.run import send_unsent, start_run
from infra.tracking.store import check_store
from pipeline.config import TrackingConfig
from pipeline.errors import ConfigError
from pipeline.lineage import Artifact
from tests.infra.tracking.mlflow_server import mlflow_server, runs_at, steps_at

POINTS = 60


@pytest.fixture(scope="module")
def server(postgres_uri, tmp_path_factory):
    with mlflow_server(postgres_uri, tmp_path_factory.mktemp("mlflow")) as started:
        yield started


def job(tracking, output, between=lambda step: None):
    run = start_run(tracking, "job", str(output))
    run.log_start(
        {"lm": {"steps": POINTS}}, [Artifact("corpus", "/data/a.jsonl", "ab" * 32)], {"sllm.job": "x"}
    )
    for step in range(1, POINTS + 1):
        between(step)
        run.log_metrics({"loss": 1 / step}, step)
    run.log_output(Artifact("model", str(output), "cd" * 32), {"final": 2.0})
    run.end("FINISHED")
    return run, run.close()


def check(uri, run_id):
    assert steps_at(uri, run_id, "loss") == [(step, 1 / step) for step in range(1, POINTS + 1)]


def test_jobs_at_the_same_time_in_a_new_experiment(server, tmp_path):
    uri = f"http://127.0.0.1:{server[0]}"
    tracking = TrackingConfig(uri=uri, experiment="together", retry_seconds=60)
    ended = []
    jobs = [
        threading.Thread(target=lambda name=name: ended.append(job(tracking, tmp_path / name)))
        for name in "abcd"
    ]
    for one in jobs:
        one.start()
    for one in jobs:
        one.join()
    assert [all_sent for _, all_sent in ended] == [True] * 4
    stored = runs_at(uri, "together")
    assert {run.run_id for run, _ in ended} == {run.info.run_id for run in stored} and len(stored) == 4
    for run in stored:
        check(uri, run.info.run_id)
        assert run.info.status == "FINISHED" and len(run.outputs.model_outputs) == 1


def test_a_server_that_is_stopped_and_goes_on(server, tmp_path, monkeypatch):
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_TIMEOUT", "3")
    port, group = server
    uri = f"http://127.0.0.1:{port}"

    def stop(step):
        if step == 20:
            os.killpg(group, signal.SIGSTOP)
            threading.Timer(5.0, os.killpg, (group, signal.SIGCONT)).start()
        time.sleep(0.05)

    begun = time.monotonic()
    run, all_sent = job(TrackingConfig(uri=uri, experiment="stopped", retry_seconds=60), tmp_path, stop)
    print(f"stopped for 5 s: {time.monotonic() - begun:.1f} s")
    assert all_sent
    (stored,) = runs_at(uri, "stopped")
    assert stored.info.run_id == run.run_id and stored.data.metrics == {"loss": 1 / POINTS, "final": 2.0}
    check(uri, run.run_id)


def test_a_database_is_refused_at_once(postgres_uri):
    begun = time.monotonic()
    nowhere = postgres_uri.replace("/postgres", "/nosuch")
    with pytest.raises(ConfigError, match=r'cannot be used: .*database "nosuch" does not exist'):
        check_store(TrackingConfig(uri=nowhere))
    assert time.monotonic() - begun < 20


def test_a_server_that_is_killed(postgres_uri, server, tmp_path):
    """The last test: what the server has not got is sent to its database."""
    port, group = server
    tracking = TrackingConfig(uri=f"http://127.0.0.1:{port}", experiment="killed", retry_seconds=3)

    def kill(step):
        if step == 20:
            os.killpg(group, signal.SIGKILL)

    begun = time.monotonic()
    _, all_sent = job(tracking, tmp_path, kill)
    print(f"killed: {time.monotonic() - begun:.1f} s")
    assert not all_sent
    direct = TrackingConfig(uri=postgres_uri, experiment="killed", retry_seconds=60)
    run_id, all_sent = send_unsent(direct, str(tmp_path), time.time())
    (stored,) = runs_at(postgres_uri, "killed")
    assert all_sent and stored.info.run_id == run_id and stored.info.status == "FINISHED"
    check(postgres_uri, run_id)
