"""`sllm status`, `logs`, `stop` and `list`, with a client of the test's own."""

import json

import pytest
from ray.dashboard.modules.job.pydantic_models import JobDetails
from ray.job_submission import JobStatus
from typer.testing import CliRunner

from infra.submission import submit as submission
from jobs import cli
from jobs.submissions import commands

RUNNING, FAILED, THEIRS = "train-lm-0a1b2c3d4e5f", "prepare-5f4e3d2c1b0a-2", "raysubmit_x"
OURS = {"sllm.host": "laptop", "sllm.user": "ann", "sllm.code_version": "c0ffee"}


class Client:
    def __init__(self) -> None:
        self.stopped: list[str] = []
        self.jobs = {
            RUNNING: details(
                RUNNING, "RUNNING", {"sllm.verb": "train-lm", "sllm.output": "/d/lm", **OURS}, 3
            ),
            FAILED: details(
                FAILED, "FAILED", {"sllm.verb": "prepare", "sllm.output": "/d/[red]\x1b[31m", **OURS}, 2
            ),
            THEIRS: details(THEIRS, "SUCCEEDED", None, 1),
        }

    def list_jobs(self):
        return list(self.jobs.values())

    def get_job_info(self, job):
        return self.jobs[job]

    def get_job_logs(self, job):
        return f"log of {job}\n"

    async def tail_job_logs(self, job):
        if job == RUNNING:
            raise KeyboardInterrupt
        yield f"log of {job}\n"

    def stop_job(self, job):
        self.stopped.append(job)
        self.jobs[job] = details(job, "STOPPED", self.jobs[job].metadata, 3)
        return True


def details(job, status, metadata, seconds):
    return JobDetails(
        type="SUBMISSION",
        submission_id=job,
        status=JobStatus(status),
        entrypoint="python -m jobs",
        metadata=metadata,
        start_time=1_700_000_000_000 + 1000 * seconds,
        driver_exit_code=2 if status == "FAILED" else None,
        message="Job failed" if status == "FAILED" else None,
    )


@pytest.fixture
def client(monkeypatch):
    client = Client()
    monkeypatch.setattr(commands, "client_of", lambda _address: client)
    monkeypatch.setattr(submission.time, "sleep", lambda _seconds: None)
    monkeypatch.setenv("RAY_API_SERVER_ADDRESS", "http://127.0.0.1:1")
    return client


def sllm(*arguments):
    return CliRunner().invoke(cli.app, list(arguments))


@pytest.mark.usefixtures("client")
def test_list_shows_all_and_what_is_known_of_each():
    result = sllm("list")
    assert result.exit_code == 0, result.output
    lines = [
        line for line in result.stdout.splitlines() if any(id in line for id in (RUNNING, FAILED, THEIRS))
    ]
    assert [next(id for id in (RUNNING, FAILED, THEIRS) if id in line) for line in lines] == [
        RUNNING,
        FAILED,
        THEIRS,
    ]
    assert all(part in lines[0] for part in ("train-lm ", "/d/lm", "RUNNING", "2023-11-1", "ann@laptop"))
    assert "SUCCEEDED" in lines[2] and "@" not in lines[2] and "None" not in lines[2]
    assert "\x1b" not in result.stdout and "/d/[red]" in lines[1]


@pytest.mark.usefixtures("client")
def test_json_is_for_machines():
    listed = json.loads(sllm("list", "--json").stdout)
    assert [one["id"] for one in listed] == [RUNNING, FAILED, THEIRS]
    assert listed[0]["user"] == "ann" and listed[2]["user"] is None
    assert [one["id"] for one in json.loads(sllm("status", "--json").stdout)] == [RUNNING]
    assert json.loads(sllm("status", FAILED, "--json").stdout) == listed[1]


@pytest.mark.parametrize(
    "options", [("list",), ("list", "--json"), ("status", THEIRS, "--json"), ("status", THEIRS)]
)
def test_what_others_wrote_shows_no_secret_and_no_control_character(client, options):
    metadata = {"sllm.verb": "prepare", "sllm.output": "s3://me:hunter2@host/d\x9b31m\u202e"}
    client.jobs[THEIRS] = details(THEIRS, "SUCCEEDED", metadata, 1)
    result = sllm(*options)
    assert result.exit_code == 0, result.output
    assert "host/d" in result.stdout
    assert not any(part in result.stdout for part in ("hunter2", "\x9b", "\u202e"))


@pytest.mark.usefixtures("client")
def test_status_shows_what_has_not_ended_or_one():
    assert RUNNING in sllm("status").stdout and FAILED not in sllm("status").stdout
    one = sllm("status", FAILED)
    assert one.exit_code == 0
    assert all(part in one.stdout for part in (FAILED, "FAILED", "c0ffee", "Job failed", "python -m jobs"))


def test_status_without_submissions(client):
    client.jobs.clear()
    assert sllm("status").stdout == "no submissions\n" and sllm("list", "--json").stdout == "[]\n"


@pytest.mark.parametrize("verb", ["status", "logs", "stop"])
def test_a_wrong_id_names_the_nearest(client, verb):
    result = sllm(verb, RUNNING[:-1])
    assert result.exit_code == 2 and f"did you mean {RUNNING}?" in result.stderr
    assert result.stderr.count("\n") == 2 and not client.stopped  # the first names the cluster


@pytest.mark.usefixtures("client")
@pytest.mark.parametrize(("job", "code"), [(FAILED, 2), (THEIRS, 0)])
def test_following_a_log_ends_with_the_jobs_exit_code(job, code):
    followed = sllm("logs", job, "-f")
    assert (followed.exit_code, followed.stdout) == (code, f"log of {job}\n")
    printed = sllm("logs", job)
    assert (printed.exit_code, printed.stdout) == (0, f"log of {job}\n")


def test_interrupt_while_following_leaves_the_job(client):
    result = sllm("logs", RUNNING, "-f")
    assert result.exit_code == 130 and f"{RUNNING} goes on" in result.stderr and not client.stopped


def test_stop_stops_what_runs(client):
    result = sllm("stop", RUNNING)
    assert result.exit_code == 0 and result.stderr.endswith(f"names\n{RUNNING} has ended: STOPPED\n")
    assert client.stopped == [RUNNING]
    assert json.loads(sllm("stop", THEIRS, "--json").stdout)["status"] == "SUCCEEDED"
    assert client.stopped == [RUNNING]


def test_a_cluster_must_be_named(monkeypatch):
    for name in ("RAY_API_SERVER_ADDRESS", "RAY_ADDRESS"):
        monkeypatch.delenv(name, raising=False)
    result = sllm("list")
    assert result.exit_code == 2 and "--address" in result.stderr


def test_detach_goes_with_submit():
    result = sllm("prepare", "output=/x", "--detach")
    assert result.exit_code == 2 and "--detach goes with --submit" in result.stderr
