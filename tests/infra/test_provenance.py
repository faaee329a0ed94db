import json
import shlex
import sys

import pytest

from infra import provenance
from infra.provenance import code_versions, command_line, git_commit, ray_job, ray_job_tags, user_name


@pytest.fixture
def outside_ray(monkeypatch):
    """No variable of a Ray job, and no connection of this process, which other tests may have made."""
    for name in ("RAY_JOB_ID", "RAY_JOB_SUBMISSION_ID", "RAY_JOB_CONFIG_JSON_ENV_VAR"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(provenance, "_connected_job", lambda: None)


def test_a_submitted_job_has_its_commit_from_the_environment(monkeypatch):
    monkeypatch.setenv("SLLM_GIT_COMMIT", "c0ffee")
    assert git_commit() == "c0ffee" and code_versions()["git"] == "c0ffee"


def test_the_ray_job_is_named_by_its_submission(monkeypatch, outside_ray):
    assert ray_job_tags() == {} and ray_job() == ""
    monkeypatch.setattr(provenance, "_connected_job", lambda: "01000000")
    assert ray_job() == "01000000"
    monkeypatch.setenv("RAY_JOB_CONFIG_JSON_ENV_VAR", '{"metadata": {"job_submission_id": "raysubmit_1"}}')
    assert ray_job_tags() == {"ray.submission_id": "raysubmit_1", "ray.job_id": "01000000"}
    assert ray_job() == "raysubmit_1"


def test_a_submitted_job_is_of_the_user_and_command_that_submitted_it(monkeypatch, outside_ray):
    monkeypatch.setattr(provenance.getpass, "getuser", lambda: "ray")
    assert user_name() == "ray"
    metadata = {"sllm.user": "ann", "sllm.command": "sllm run demo --submit auto"}
    monkeypatch.setenv("RAY_JOB_CONFIG_JSON_ENV_VAR", json.dumps({"metadata": metadata}))
    assert (user_name(), command_line()) == ("ann", "sllm run demo --submit auto")


def test_a_user_without_a_name_is_empty(monkeypatch, outside_ray):
    monkeypatch.setattr(provenance.getpass, "getuser", lambda: {}["no such uid"])
    assert user_name() == ""


@pytest.mark.parametrize("program", ["/venv/bin/sllm", "/checkout/jobs/__main__.py"])
def test_the_command_can_be_pasted_and_has_no_secret(monkeypatch, outside_ray, program):
    arguments = [
        "prepare",
        "prepare",
        "data.inputs=['a b.txt']",
        "tracking.uri=http://me:hunter2@host",
        "n=\udcff",
    ]
    monkeypatch.setattr(sys, "argv", [program, *arguments])
    line = command_line()
    assert "hunter2" not in line
    line.encode()
    expected = ["sllm", *arguments[:3], "tracking.uri=http://***@host", "n=\\udcff"]
    assert shlex.split(line) == expected


def test_another_program_is_shown_as_it_was_started(monkeypatch, outside_ray):
    monkeypatch.setattr(sys, "argv", ["train.py"])
    monkeypatch.setattr(sys, "orig_argv", ["python", "train.py", "a b"])
    assert command_line() == "python train.py 'a b'"
