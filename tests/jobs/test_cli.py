import json
import subprocess
import sys
import types

import pytest
import yaml
from typer.testing import CliRunner

from jobs import cli
from pipeline.errors import ConfigError, TrainingError
from pipeline.lineage import Artifact, JobRecord
from segmenters.contract import SegmenterError

RECORD = JobRecord(
    job="prepare",
    identity="i",
    config={},
    inputs=(),
    output=Artifact("shards", "out", "d"),
    run_id="r",
    metrics={"é": 1.0},
    versions={},
    started="s",
    finished="f",
)


@pytest.fixture
def invoke(monkeypatch):
    """Run `sllm` with these arguments; `job` stands in for every job's `run`."""

    def start(*arguments, job=None):
        seen = []

        def run(config, force=False):
            seen.append((config, force))
            return RECORD if job is None else job()

        for verb in cli.JOBS:
            name = f"jobs.{verb.replace('-', '_')}"
            monkeypatch.setitem(sys.modules, name, types.SimpleNamespace(run=run))
        result = CliRunner().invoke(cli.app, list(arguments))
        return result, seen

    return start


def fail_with(error):
    def job():
        raise error

    return job


@pytest.mark.parametrize("verb", cli.JOBS)
def test_every_verb_takes_a_file_and_overrides(invoke, tmp_path, verb):
    (tmp_path / "c.yaml").write_text("precision: bf16\nlm: {context_tokens: 64}\n")
    result, [(config, force)] = invoke(verb, str(tmp_path / "c.yaml"), "lm.context_tokens=32", "--force")
    assert result.exit_code == 0, result.output
    assert (config.precision, config.lm.context_tokens, force) == ("bf16", 32, True)


@pytest.mark.parametrize("verb", cli.JOBS)
def test_help_shows_an_example(invoke, verb):
    result, _ = invoke(verb, "--help")
    assert result.exit_code == 0 and f"sllm {verb} " in result.stdout


def test_dry_run_prints_the_resolved_configuration_and_runs_nothing(invoke):
    result, seen = invoke("train-vae", "vae.num_layers=2", "--dry-run")
    assert result.exit_code == 0 and not seen
    tree = yaml.safe_load(result.stdout)
    assert tree["vae"]["num_layers"] == 2 and tree["vae"]["train"]["beta2"] == 0.95


def test_generate_takes_a_model_folder_and_a_prompt(invoke, tmp_path):
    result, [(config, _)] = invoke("generate", str(tmp_path), "--prompt", 'yes: "no" #1 \\ 😀')
    assert result.exit_code == 0, result.output
    assert config.models.sllm == str(tmp_path) and config.generate.prompt == 'yes: "no" #1 \\ 😀'


@pytest.mark.parametrize(
    ("error", "code"),
    [(ConfigError("bad\nkey"), 2), (SegmenterError("bad key"), 2), (TrainingError("bad key"), 1)],
)
def test_an_error_is_one_line_and_an_exit_code(invoke, error, code):
    result, _ = invoke("prepare", "output=x", job=fail_with(error))
    assert (result.exit_code, result.stdout) == (code, "")
    assert result.stderr == "error: bad key\n"


def test_debug_shows_the_traceback(invoke, monkeypatch):
    monkeypatch.setenv("SLLM_DEBUG", "1")
    result, _ = invoke("prepare", "output=x", job=fail_with(ConfigError("bad key")))
    assert "Traceback" in result.stderr and result.stderr.endswith("error: bad key\n")


def test_an_error_in_a_ray_task_is_found(invoke):
    class TaskError(ConfigError):
        cause = ConfigError("bad key")

    result, _ = invoke("prepare", "output=x", job=fail_with(TaskError("a remote traceback")))
    assert (result.exit_code, result.stderr) == (2, "error: bad key\n")


def test_a_fault_of_ours_keeps_its_traceback(invoke):
    result, _ = invoke("prepare", "output=x", job=fail_with(ZeroDivisionError("oh")))
    assert isinstance(result.exception, ZeroDivisionError)


def test_interrupt_exits_130_with_one_line(invoke):
    result, _ = invoke("prepare", "output=x", job=fail_with(KeyboardInterrupt()))
    assert result.exit_code == 130 and result.stderr.count("\n") == 1


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["prepare", "nowhere.yaml"], "cannot read the configuration nowhere.yaml"),
        (["prepare", "vae.num_layer=1"], "nearest known is 'vae.num_layers'"),
        (["prepare", "output"], "cannot read the configuration output"),
    ],
)
def test_a_bad_configuration_exits_2(invoke, arguments, message):
    result, seen = invoke(*arguments)
    assert result.exit_code == 2 and not seen
    assert message in result.stderr and result.stderr.count("\n") == 1


def test_json_leaves_stdout_to_the_record():
    code = f"""
import subprocess, sys, types
import jobs.cli
from pipeline.lineage import Artifact, JobRecord
def run(config, force=False):
    print("progress from Python")
    subprocess.run(["echo", "progress from a child"])
    return {RECORD!r}
sys.modules["jobs.prepare"] = types.SimpleNamespace(run=run)
jobs.cli.app(["prepare", "output=x", "--json"])
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert json.loads(done.stdout)["metrics"] == {"é": 1.0}
    assert "progress from Python" in done.stderr and "progress from a child" in done.stderr


def test_help_and_dry_run_import_nothing_heavy():
    code = """
import sys
from typer.testing import CliRunner
from jobs.cli import app
for arguments in (["--help"], ["prepare", "output=x", "--dry-run"]):
    assert CliRunner().invoke(app, arguments).exit_code == 0
heavy = {"mlflow", "ray", "torch", "transformers", "pyarrow", "spacy", "datasets"} & sys.modules.keys()
assert not heavy, heavy
"""
    subprocess.run([sys.executable, "-c", code], check=True)
