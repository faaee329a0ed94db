"""The run of a command with several jobs: one per output folder, and theirs below it."""

import pytest

from infra.tracking.journal import Journal
from infra.tracking.operations import RunWriter
from infra.tracking.parent import ParentRun, jobs_below
from infra.tracking.run import start_run
from infra.tracking.store import client_of
from pipeline.config import TrackingConfig
from pipeline.errors import TrainingError


@pytest.fixture
def command(tracking_uri, tmp_path):
    """Start a command with jobs that write to these folders -> ids of the parent and of the jobs."""
    config = TrackingConfig(uri=tracking_uri)

    def start(*jobs, output="demo", error=None):
        parent = ParentRun(
            config, f"run {output}", str(tmp_path / output), lambda run: run.log_start({"jobs": jobs}, [], {})
        )
        made = []
        with jobs_below(parent):
            for name in jobs:
                run = start_run(config, name, str(tmp_path / output / name))
                made.append(run.run_id)
                if error is not None:
                    run.close()
                    raise error
                run.end("FINISHED")
                run.close()
        return parent.run and parent.run.run_id, made

    return start


@pytest.fixture
def store(tracking_uri):
    client = client_of(tracking_uri)

    def run(run_id):
        return client.get_run(run_id)

    run.client = client
    return run


def parent_of(run):
    return run.data.tags.get("mlflow.parentRunId")


def test_the_runs_of_the_jobs_are_below_that_of_the_command(command, store):
    parent, (first, second) = command("a", "b")
    assert store(parent).info.run_name == "run demo" and store(parent).info.status == "FINISHED"
    assert store(parent).data.params == {"jobs": '["a", "b"]'} and parent_of(store(parent)) is None
    assert {parent_of(store(first)), parent_of(store(second))} == {parent}


def test_the_same_command_goes_on_in_its_run_and_one_that_only_reuses_has_none(command, store):
    parent, (first,) = command("a")
    assert command() == (None, [])
    again, (second,) = command("b")
    assert again == parent and parent_of(store(second)) == parent == parent_of(store(first))
    other, _ = command("a", output="other")
    assert other != parent
    assert len(store.client.search_runs([store(parent).info.experiment_id])) == 5


def test_a_command_within_another_is_below_it(command, store, tracking_uri, tmp_path):
    outer = ParentRun(TrackingConfig(uri=tracking_uri), "run", str(tmp_path / "outer"), lambda run: None)
    with jobs_below(outer):
        inner, (job,) = command("a", output="outer/comparison")
    assert parent_of(store(job)) == inner and parent_of(store(inner)) == outer.run.run_id


def test_a_command_that_fails_says_why(command, store, tmp_path):
    with pytest.raises(TrainingError):
        command("a", error=TrainingError("diverged"))
    experiment = store.client.get_experiment_by_name("sllm").experiment_id
    (parent,) = [run for run in store.client.search_runs([experiment]) if run.info.run_name == "run demo"]
    assert parent.info.status == "FAILED" and parent.data.tags["sllm.error"] == "TrainingError: diverged"


def test_a_command_that_was_killed_is_ended_by_the_next(command, store, tmp_path, tracking_uri):
    parent, _ = command("a")
    journal = Journal(str(tmp_path / "demo"))
    (header,) = journal.last_run()
    journal.append({"do": "metrics", "step": None, "ms": 1, "values": {"late": 1.0}})
    store.client.update_run(parent, status="RUNNING")
    assert command() == (None, [])
    assert store(parent).info.status == "FINISHED" and store(parent).data.metrics == {"late": 1.0}
    assert Journal(str(tmp_path / "demo")).last_run() == [header]


@pytest.mark.parametrize("first", ["job", "command"])
def test_runs_that_begin_while_the_store_is_away_come_together(first, store, tracking_uri):
    """Both are sent later, in any order; neither knew the other's id."""

    def writer():
        return RunWriter(TrackingConfig(uri=tracking_uri), tracking_uri, lambda: None, lambda: None)

    writers = {"command": writer(), "job": writer()}
    create = {
        "do": "create",
        "identity": "",
        "experiment": "sllm",
        "ms": 1,
        "run_id": None,
        "must_exist": False,
    }
    waiting = {
        "command": [
            {**create, "key": "of the command", "name": "run"},
            {"do": "end", "status": "FINISHED", "ms": 2},
        ],
        "job": [
            {**create, "key": "of the job", "name": "job", "parent": None, "parent_key": "of the command"}
        ],
    }
    for name in sorted(writers, key=lambda name: name != first):
        for operation in waiting[name]:
            writers[name].apply([operation])
    assert parent_of(store(writers["job"].run_id)) == writers["command"].run_id
