"""`sllm doctor`: what it prints, its exit code, and that nothing secret or raw is shown."""

import json
from collections.abc import Iterator

import pytest
from typer.testing import CliRunner

from infra.doctor import Check
from jobs.cli import app
from pipeline.config import Config


def doctor(monkeypatch: pytest.MonkeyPatch, checks: list[Check], *arguments: str):
    def found(config: Config) -> Iterator[Check]:
        assert config.output == "runs/x"
        yield from checks

    monkeypatch.setattr("jobs.setup.doctor.all_checks", found)
    return CliRunner().invoke(app, ["doctor", "output=runs/x", *arguments])


CHECKS = [
    Check("Python", "ok", "3.11.7"),
    Check("MLflow", "warning", "http://ann:secret@mlflow:5000 does not answer\x1b[31m", "start the server"),
]


def test_what_was_found_and_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    done = doctor(monkeypatch, CHECKS)
    assert done.exit_code == 0
    assert "ok      Python: 3.11.7\n" in done.stdout and "        -> start the server\n" in done.stdout
    assert "1 ok, 1 warnings, 0 errors" in done.stdout
    assert "secret" not in done.output and "\x1b" not in done.output and "\\u001b[31m" in done.stdout


def test_json_and_the_exit_code(monkeypatch: pytest.MonkeyPatch) -> None:
    done = doctor(monkeypatch, [*CHECKS, Check("Ray", "error", "no task runs", "launcher=local")], "--json")
    assert done.exit_code == 1
    assert [check["state"] for check in json.loads(done.stdout)] == ["ok", "warning", "error"]
    assert "secret" not in done.stdout
