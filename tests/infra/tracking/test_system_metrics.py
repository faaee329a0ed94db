"""System metrics of a job, also of a resumed one, of one whose store is away, and of nodes of a cluster."""

import contextlib
import json
import threading
import time

import pytest
import ray

from infra.cluster import nodes
from infra.cluster.nodes import WorkingNodes, worker_is_on
from infra.cluster.reports import Receiver, Sender
from infra.cluster.tasks import RayWorkers
from infra.tracking import system_metrics as module
from infra.tracking.journal import Journal
from infra.tracking.run import start_run
from infra.tracking.store import client_of
from infra.tracking.system_metrics import system_metrics
from pipeline.config import TrackingConfig
from pipeline.lineage import Artifact, JobRecord

CPU = "cpu_utilization_percentage"


@pytest.fixture(autouse=True)
def often(monkeypatch):
    monkeypatch.setenv("MLFLOW_ENABLE_SYSTEM_METRICS_LOGGING", "true")
    monkeypatch.setenv("MLFLOW_SYSTEM_METRICS_SAMPLING_INTERVAL", "0.2")
    monkeypatch.setattr(module, "SHORTEST_SECONDS", 0.01)
    monkeypatch.setattr(nodes, "_seen", {})


@pytest.fixture
def alone(monkeypatch):
    """Other tests of the session may have connected this process to a cluster."""
    monkeypatch.setattr(module, "_is_on_ray", lambda: False)


def measured(tracking_uri, output, began, resume=None):
    run = start_run(TrackingConfig(uri=tracking_uri), "job", str(output), resume=resume)
    logged, log = [], run.log_system_metrics

    def noted(values, step):
        logged.append(step)
        log(values, step)

    run.log_system_metrics = noted
    with system_metrics(run, began):
        end = time.monotonic() + 60
        while not logged:
            assert time.monotonic() < end
            time.sleep(0.05)
    run.end("FINISHED")
    assert run.close()
    return run.run_id


def stored(run):
    return client_of(run.tracking_uri).get_run(run.run_id).data.metrics if run.run_id else {}


def test_a_job_has_the_figures_of_its_machine_and_a_resumed_one_goes_on(tracking_uri, tmp_path, alone):
    began = time.time() - 100
    run_id = measured(tracking_uri, tmp_path, began)
    client = client_of(tracking_uri)
    first = client.get_metric_history(run_id, f"system/{CPU}")
    assert first and all(metric.step >= 100 for metric in first)
    output = Artifact("model", str(tmp_path), "")
    record = JobRecord("train-lm", "", {}, (), output, run_id, {}, {}, "", None)
    assert measured(tracking_uri, tmp_path, began, record) == run_id
    both = client.get_metric_history(run_id, f"system/{CPU}")
    assert len(both) > len(first) and {(one.step, one.timestamp) for one in first} < {
        (one.step, one.timestamp) for one in both
    }


def test_figures_of_a_job_whose_store_is_away_are_kept(tmp_path, alone):
    uri = "http://127.0.0.1:9"
    run = start_run(TrackingConfig(uri=uri, retry_seconds=0.1), "job", str(tmp_path), trouble="refused")
    with system_metrics(run, time.time()):
        end = time.monotonic() + 60
        while "system/" not in (tmp_path / ".tracking.jsonl").read_text() and time.monotonic() < end:
            time.sleep(0.1)
    assert not run.close()
    kept = [line for line in Journal(str(tmp_path)).last_run() if line["do"] == "metrics"]
    assert kept and all(f"system/{CPU}" in line["values"] for line in kept)


def test_no_figures_where_they_are_not_wanted(tracking_uri, tmp_path, monkeypatch, alone):
    monkeypatch.setenv("MLFLOW_ENABLE_SYSTEM_METRICS_LOGGING", "false")
    run = start_run(TrackingConfig(uri=tracking_uri), "job", str(tmp_path))
    with system_metrics(run, time.time()):
        time.sleep(0.5)
    assert run.close() and stored(run) == {}


def test_a_measurement_that_fails_harms_no_job(tracking_uri, tmp_path, monkeypatch, alone, caplog):
    def broken():
        raise RuntimeError("no such sensor")

    monkeypatch.setattr(module, "Machine", broken)
    run = start_run(TrackingConfig(uri=tracking_uri), "job", str(tmp_path))
    with system_metrics(run, time.time()):
        time.sleep(0.3)
    assert run.close() and "no such sensor" in caplog.text


def test_no_measurement_goes_on_after_the_job(tracking_uri, tmp_path, monkeypatch):
    """Ray ends a process that calls it while it is shut down."""
    asked = threading.Event()

    class Slow:
        here = "node"

        def sample(self, ended):
            asked.set()
            ended.wait(60)
            time.sleep(0.3)
            return {}

        def close(self):
            pass

    monkeypatch.setattr(module, "_is_on_ray", lambda: True)
    monkeypatch.setattr(nodes, "WorkingNodes", Slow)
    run = start_run(TrackingConfig(uri=tracking_uri), "job", str(tmp_path))
    with system_metrics(run, time.time()):
        assert asked.wait(60)
    assert "system-metrics" not in {thread.name for thread in threading.enumerate()}
    assert run.close()


class Worker:
    def here(self, item):
        return ray.get_runtime_context().get_node_id()


def test_the_nodes_of_workers_become_known(ray_cluster):
    workers = RayWorkers(Worker, num_workers=1)
    ((_, node),) = workers.map(Worker.here, [0])
    workers.close()
    assert nodes._seen == {node: None}
    receiver = Receiver(lambda metrics: None)
    with receiver.receiving():
        sender = Sender(receiver.queue)
        sender.send(("node", "of training"))
        sender.close()
    assert list(nodes._seen) == [node, "of training"]


def test_each_node_is_measured_and_one_that_is_gone_left_out(ray_cluster, monkeypatch):
    own = ray.get_runtime_context().get_node_id()
    working, never = WorkingNodes(), threading.Event()
    assert working.sample(never) == {}
    worker_is_on(own)
    worker_is_on("0" * 56)  # a node that the cluster does not have
    assert working.sample(never) == {}
    working._own = "elsewhere"  # this node is now that of a worker
    try:
        (figures,) = working.sample(never).values()
        assert figures[CPU] >= 0
        (monitor,) = working._monitors.values()
        ray.kill(monitor)
        end = time.monotonic() + 60
        with contextlib.suppress(ray.exceptions.RayError):
            while working.sample(never) and time.monotonic() < end:
                time.sleep(0.1)
        assert json.dumps(next(iter(working.sample(never).values())))  # measured by another monitor
    finally:
        working.close()
