import errno
import json
import os
import subprocess
import sys
import types

import pytest
import yaml
from typer.testing import CliRunner

from jobs import cli
from jobs.verbs import VERBS
from pipeline.errors import ConfigError, SllmError, TrainingError
from pipeline.lineage import Artifact, JobRecord
from segmenters.contract import SegmenterError

JOBS = [name for name, verb in VERBS.items() if verb.can_be_submitted]

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
    """Run `sllm` with these arguments; `job` replaces every job's `run`."""

    def start(*arguments, job=None):
        seen = []

        def run(config, force=False):
            seen.append((config, force))
            return RECORD if job is None else job()

        for verb in JOBS:
            monkeypatch.setitem(sys.modules, VERBS[verb].module_name, types.SimpleNamespace(run=run))
        result = CliRunner().invoke(cli.app, list(arguments))
        return result, seen

    return start


def fail_with(error):
    def job():
        raise error

    return job


@pytest.mark.parametrize("verb", JOBS)
def test_every_verb_takes_a_file_and_overrides(invoke, tmp_path, verb):
    (tmp_path / "c.yaml").write_text("precision: bf16\nlm: {context_tokens: 64}\n")
    result, [(config, force)] = invoke(verb, str(tmp_path / "c.yaml"), "lm.context_tokens=32", "--force")
    assert result.exit_code == 0, result.output
    assert (config.precision, config.lm.context_tokens, force) == ("bf16", 32, True)


@pytest.mark.parametrize("verb", VERBS)
def test_help_shows_an_example(invoke, verb):
    result, _ = invoke(verb, "--help")
    assert result.exit_code == 0 and f"sllm {verb} " in result.stdout


def test_dry_run_prints_the_resolved_configuration_and_runs_nothing(invoke):
    result, seen = invoke("train-vae", "vae.num_layers=2", "--dry-run")
    assert result.exit_code == 0 and not seen
    tree = yaml.safe_load(result.stdout)
    assert tree["vae"]["num_layers"] == 2 and tree["vae"]["train"]["beta2"] == 0.95


def test_generate_says_where_there_is_no_model(invoke, tmp_path):
    result, seen = invoke("generate", str(tmp_path / "none"))
    assert result.exit_code == 2 and not seen and f"there is no model at {tmp_path}/none" in result.stderr


def test_an_unknown_job_of_a_run_is_refused(invoke):
    result, seen = invoke("run", "run.jobs=[train-ml]", "--dry-run")
    assert result.exit_code == 2 and not seen and "did you mean train-lm?" in result.stderr


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


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EACCES])
def test_what_a_file_system_refuses_is_one_line(invoke, number):
    def job():
        try:
            raise OSError(number, os.strerror(number), "/d/x.json")
        except OSError as error:
            raise RuntimeError("of a library") from error

    for message, failing in (
        (" at /d/x.json: ", job),
        (": ", fail_with(OSError(number, os.strerror(number)))),
    ):
        result, _ = invoke("evaluate", "output=x", job=failing)
        assert result.exit_code == 1 and result.stderr.count("\n") == 1
        assert result.stderr.startswith(f"error: {os.strerror(number)}{message}")
        assert result.stderr.endswith("then run the same command again\n")


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
        (["prepare", "output"], "there is no file and no preset 'output'"),
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
for arguments in (["--help"], ["prepare", "output=x", "--dry-run"], ["config", "vae"]):
    assert CliRunner().invoke(app, arguments).exit_code == 0
heavy = {"mlflow", "ray", "torch", "transformers", "pyarrow", "spacy", "datasets"} & sys.modules.keys()
assert not heavy, heavy
"""
    subprocess.run([sys.executable, "-c", code], check=True)


@pytest.mark.parametrize("verb", JOBS)
def test_a_url_as_output_reaches_every_job(invoke, monkeypatch, tmp_path, verb):
    monkeypatch.chdir(tmp_path)
    for output in ("s3://bucket/run", "gs://bucket/run"):
        result, [(config, _)] = invoke(verb, f"output={output}")
        assert result.exit_code == 0 and config.output == output and not list(tmp_path.iterdir())


@pytest.mark.parametrize("output", ["s3:/bucket/run", "memory://run", "gs//bucket"])
def test_a_url_that_leads_nowhere_is_refused_by_every_verb(invoke, monkeypatch, tmp_path, output):
    monkeypatch.chdir(tmp_path)
    for verb in JOBS:
        result, seen = invoke(verb, f"output={output}")
        assert result.exit_code == 2 and not seen and not list(tmp_path.iterdir())


def test_jobs_write_nothing_here_for_a_url_that_cannot_be_written_to(tmp_path, monkeypatch):
    """Also where no console is between."""
    from jobs import compare, evaluate, export, generate, run
    from jobs.runner import training
    from jobs.training import train_segmenter
    from pipeline.config import load_config

    monkeypatch.chdir(tmp_path)
    (tmp_path / "gold.jsonl").touch()
    options = [
        "output=http://127.0.0.1:9/run",
        "shards=s",
        "models.sllm=m",
        "segmenter_training.gold={path: gold.jsonl}",
    ]
    options += ["compare.variants={a: {title: a, stages: {train-lm: 1}}}"]
    config = load_config(None, options)
    jobs = [
        *(lambda job=job: job.run(config) for job in (compare, evaluate, generate, run, train_segmenter)),
        lambda: training.run_training("train-lm", config, [], [], False),
        lambda: export.run("x", ["output=http://127.0.0.1:9/run"]),
        lambda: export.run("memory://none", [f"output={tmp_path}/x"]),
    ]
    for job in jobs:
        with pytest.raises(SllmError):
            job()
    assert [path.name for path in tmp_path.iterdir()] == ["gold.jsonl"]


def test_paths_of_arguments_are_resolved(invoke, monkeypatch, tmp_path):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("MODELS", str(tmp_path))
    (tmp_path / "model").mkdir()
    (tmp_path / "c.yaml").write_text("output: ~/x\n")
    for given in ("~/model", "${MODELS}/model"):
        _, [(config, _)] = invoke("generate", given)
        assert config.models.sllm == str(tmp_path / "model")
    _, [(config, _)] = invoke("prepare", "~/c.yaml")
    assert config.output == str(tmp_path / "x")
    for arguments in (["inspect", "~/none"], ["lineage", "~/none"], ["export", "~/none", "output=x"]):
        result, _ = invoke(*arguments)
        assert result.exit_code == 2 and f"{tmp_path}/none" in result.stderr.replace("\n", "")
    result, _ = invoke("inspect", "$NO_SUCH_VARIABLE/x")
    assert result.exit_code == 2 and "NO_SUCH_VARIABLE is not set" in result.stderr


def test_an_override_that_does_not_count_is_named(invoke):
    result, [(config, _)] = invoke("train-lm", "lm.train.steps=5", "lm.train.steps=6")
    assert config.lm.train.steps == 6 and "lm.train.steps=5 does not count" in result.stderr
