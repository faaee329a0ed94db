"""Names of submissions, and what is known of them, with a job server of the test's own."""

import socket
import time

import pytest
from ray.dashboard.modules.job.pydantic_models import JobDetails

from infra import provenance
from infra.submission import client as connection
from infra.submission import submissions
from infra.submission import submit as submission
from infra.submission.client import SubmissionError, address_or_default, client_of, explained
from infra.submission.submissions import (
    all_submissions,
    base_id,
    find,
    identity_of,
    metadata_of,
    running_or_new_id,
    stop,
)
from pipeline.config import load_config
from pipeline.errors import ConfigError


class JobServer:
    """Stands in for Ray's client and the server: submitted jobs are pending until they are given another status."""

    def __init__(self) -> None:
        self.jobs: dict[str, JobDetails] = {}
        self.stopped: list[str] = []

    def submit_job(self, *, entrypoint, submission_id, metadata, runtime_env=None):
        if submission_id in self.jobs:
            raise RuntimeError(f"Job with submission_id {submission_id} already exists.")
        self.jobs[submission_id] = JobDetails(
            type="SUBMISSION",
            submission_id=submission_id,
            status="PENDING",
            entrypoint=entrypoint,
            metadata=metadata,
            start_time=1_700_000_000_000 + len(self.jobs) * 1000,
        )
        return submission_id

    def list_jobs(self):
        driver = JobDetails(type="DRIVER", job_id="01000000", status="RUNNING", entrypoint="")
        return [driver, *self.jobs.values()]

    def get_job_info(self, submission_id):
        return self.jobs[submission_id]

    def stop_job(self, submission_id):
        self.stopped.append(submission_id)
        self.end(submission_id, "STOPPED")

    def end(self, submission_id, status):
        self.jobs[submission_id] = JobDetails(**{**self.jobs[submission_id].model_dump(), "status": status})


def config(*changes):
    return load_config(None, ["tracking.uri=https://mlflow", "output=/shared/x", *changes])


@pytest.fixture
def server(monkeypatch):
    server = JobServer()
    monkeypatch.setattr(submission, "client_of", lambda _address: server)
    return server


def submit(tmp_path, lines, arguments=(), changes=(), verb="train-lm"):
    return submission.submit(
        "http://127.0.0.1:1",
        verb,
        None,
        changes,
        config(*changes),
        lines.append,
        arguments,
        folder=tmp_path,
        detach=True,
    )


def test_the_id_is_of_the_verb_and_the_configuration():
    names = [
        base_id("prepare", config()),
        base_id("train-lm", config()),
        base_id("prepare", config("lm.train.steps=7")),
    ]
    assert len(set(names)) == 3 and base_id("prepare", config()) == names[0]
    assert [name.rpartition("-")[0] for name in names] == ["prepare", "train-lm", "prepare"]


def test_the_same_job_is_started_once_while_it_runs(server, tmp_path, capsys):
    lines: list[str] = []
    first = base_id("train-lm", config())
    assert [submit(tmp_path, lines) for _ in range(3)] == [0, 0, 0]
    assert list(server.jobs) == [first] and capsys.readouterr().out == f"{first}\n" * 3
    assert lines.count(f"{first} is this job and has not ended: it is not started again") == 2
    assert f"sllm logs {first} -f --address http://127.0.0.1:1" in lines
    submit(tmp_path, lines, changes=["lm.train.steps=7"])
    assert len(server.jobs) == 2


def test_after_its_end_a_job_is_started_with_a_suffix(server, tmp_path):
    first = base_id("train-lm", config())
    for status in ("FAILED", "STOPPED", "SUCCEEDED"):
        submit(tmp_path, [])
        server.end(list(server.jobs)[-1], status)
    assert list(server.jobs) == [first, f"{first}-2", f"{first}-3"]
    assert running_or_new_id(server, first) == (None, f"{first}-4")


def test_a_job_that_another_submits_at_the_same_moment_is_followed(server, tmp_path, monkeypatch):
    first = base_id("train-lm", config())
    real = server.list_jobs

    def list_jobs():
        server.list_jobs = real
        before = real()
        server.submit_job(entrypoint="theirs", submission_id=first, metadata={})
        return before

    server.list_jobs = list_jobs
    lines: list[str] = []
    assert submit(tmp_path, lines) == 0
    assert server.jobs[first].entrypoint == "theirs" and f"{first} is this job" in lines[0]


def test_force_does_not_run_beside_the_job_that_it_would_replace(server, tmp_path):
    submit(tmp_path, [])
    with pytest.raises(ConfigError, match="sllm stop train-lm-"):
        submit(tmp_path, [], arguments=["--force"])
    assert len(server.jobs) == 1


def test_another_code_version_of_the_running_job_is_named(server, tmp_path, monkeypatch):
    monkeypatch.setattr(submission, "is_checkout", lambda _folder: True)
    monkeypatch.setenv("SLLM_GIT_COMMIT", "c0ffee")
    submit(tmp_path, [])
    monkeypatch.setenv("SLLM_GIT_COMMIT", "decaf")
    lines: list[str] = []
    submit(tmp_path, lines)
    assert any("runs code version c0ffee; here is decaf" in line for line in lines)


def test_metadata_says_what_and_who_and_no_secret(monkeypatch):
    monkeypatch.setattr(provenance.getpass, "getuser", lambda: "ann")
    monkeypatch.setattr(
        "sys.argv", ["/bin/sllm", "prepare", "x.yaml", "--submit", "http://me:hunter2@h:8265"]
    )
    monkeypatch.setattr(submissions.socket, "gethostname", lambda: "laptop")
    secret = config("output=https://me:hunter2@host/a?sig=hunter2")
    metadata = metadata_of("prepare", secret, "c0ffee")
    assert metadata == {
        "sllm.verb": "prepare",
        "sllm.identity": identity_of("prepare", secret),
        "sllm.output": "https://***@host/a?***",
        "sllm.code_version": "c0ffee",
        "sllm.host": "laptop",
        "sllm.user": "ann",
        "sllm.command": "sllm prepare x.yaml --submit 'http://***@h:8265'",
    }
    monkeypatch.setattr(provenance.getpass, "getuser", lambda: {}["no such uid"])
    assert "sllm.user" not in metadata_of("prepare", config(), None)


def test_what_is_known_is_read_back_and_the_newest_is_first(server, tmp_path):
    submit(tmp_path, [])
    server.submit_job(entrypoint="python x.py --token=hunter2hunter2", submission_id="other", metadata={})
    theirs, ours = all_submissions(server)
    assert (theirs.id, theirs.verb, theirs.output, theirs.user) == ("other", None, None, None)
    assert "hunter2" not in theirs.entrypoint
    assert (ours.verb, ours.output, ours.status) == ("train-lm", "/shared/x", "PENDING")
    assert ours.identity == identity_of("train-lm", config()) and ours.id == f"train-lm-{ours.identity[:12]}"
    assert ours.submitted == "2023-11-14T22:13:20+00:00" and ours.ended is None and not ours.has_ended


def test_an_unknown_id_names_the_nearest(server, tmp_path):
    with pytest.raises(ConfigError, match="there are none"):
        find(server, "train-lm-1")
    submit(tmp_path, [])
    (known,) = server.jobs
    with pytest.raises(ConfigError, match=f"did you mean {known}"):
        find(server, known[:-2])
    assert find(server, known).id == known


def test_stop_waits_for_the_end_and_leaves_what_has_ended(server, tmp_path):
    submit(tmp_path, [])
    (known,) = server.jobs
    assert stop(server, known).status == "STOPPED" and server.stopped == [known]
    assert stop(server, known).status == "STOPPED" and server.stopped == [known]


def test_a_job_that_does_not_end_is_an_error(server, tmp_path, monkeypatch):
    submit(tmp_path, [])
    (known,) = server.jobs
    monkeypatch.setattr(server, "stop_job", lambda _id: True)
    monkeypatch.setattr(submissions, "_STOP_SECONDS", 0.0)
    monkeypatch.setattr(time, "sleep", lambda _seconds: None)
    with pytest.raises(SubmissionError, match=f"{known} has not ended"):
        stop(server, known)


def test_the_address_given_counts_before_the_environment(monkeypatch):
    """Ray itself would take the environment's."""
    import ray.job_submission

    seen = []

    class Client:
        def __init__(self, address):
            seen.append(
                (address, [name for name in connection.ADDRESS_VARIABLES if name in connection.os.environ])
            )

    monkeypatch.setattr(ray.job_submission, "JobSubmissionClient", Client)
    for name in connection.ADDRESS_VARIABLES:
        monkeypatch.delenv(name, raising=False)
    lines: list[str] = []
    with pytest.raises(ConfigError, match="or set it as RAY_API_SERVER_ADDRESS or RAY_ADDRESS"):
        address_or_default(None, lines.append)
    monkeypatch.setenv("RAY_AUTH_MODE", "token")  # set by `client_of`, and taken back after this test
    monkeypatch.setenv("RAY_ADDRESS", "http://b:1")
    assert address_or_default("auto", lines.append) == "http://b:1"
    monkeypatch.setenv("RAY_API_SERVER_ADDRESS", "http://c:1")
    assert address_or_default(None, lines.append) == "http://c:1"
    assert address_or_default("http://a:1", lines.append) == "http://a:1"
    assert lines == [
        "cluster http://b:1, which RAY_ADDRESS names",
        "cluster http://c:1, which RAY_API_SERVER_ADDRESS names",
    ]
    client_of("http://a:1")
    assert seen == [("http://a:1", [])]
    assert connection.os.environ["RAY_ADDRESS"] == "http://b:1"


def test_trouble_with_the_cluster_is_one_line():
    message = r"cannot ask http://h: oh; is it the dashboard's address\?$"
    with pytest.raises(SubmissionError, match=message), explained("http://h", "ask"):
        raise RuntimeError("oh\nTraceback")
    with pytest.raises(ConfigError, match="ours"), explained("http://h", "ask"):
        raise ConfigError("ours")


def test_a_server_that_does_not_answer_or_refuses_is_told_in_time(monkeypatch):
    """One that accepts connections and never answers, and one that nobody listens at."""
    monkeypatch.setenv("RAY_AUTH_MODE", "token")
    monkeypatch.setattr(connection, "_ANSWER_SECONDS", 1.0)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        dead = f"http://127.0.0.1:{silent.getsockname()[1]}"
        began = time.monotonic()
        with pytest.raises(SubmissionError, match=f"^cannot ask {dead}: .*timed out"), explained(dead, "ask"):
            client_of(dead)
    with (
        pytest.raises(SubmissionError, match=f"^cannot ask {dead}: Failed to connect"),
        explained(dead, "ask"),
    ):
        client_of(dead)
    assert time.monotonic() - began < 30


def test_an_address_that_ray_looks_up_for_ever_is_told_in_time():
    with pytest.raises(TimeoutError, match="nothing answers in 0 s"):
        connection._within(0.1, lambda: time.sleep(5))
    with pytest.raises(KeyError):
        connection._within(5, lambda: {}["no such"])
