"""What is checked before a submission, and how its log is followed; no cluster."""

import zipfile

import pytest
import yaml

from infra.submission import submit as submission
from infra.submission.package import write_package
from infra.submission.sent_config import sent_config
from infra.submission.submit import SubmissionError, submit
from infra.submission.submitted_files import submitted_files
from jobs.runner.console import say
from jobs.runner.presets import FOLDER, names
from pipeline.config import load_config
from pipeline.errors import ConfigError


@pytest.mark.parametrize(
    "override",
    [
        "output=runs/x",
        "shards=x",
        "models.vae=x",
        "data.inputs=[a/*.txt]",
        "tracking.uri=sqlite:///runs/m.db",
    ],
)
def test_a_path_that_only_this_machine_has_is_refused(override, tmp_path):
    config = load_config(None, ["tracking.uri=https://mlflow", override])
    with pytest.raises(ConfigError, match=override.split("=")[0].replace(".", r"\.")):
        submit("http://127.0.0.1:1", "prepare", None, [], config, say, folder=tmp_path)


def test_hub_names_and_urls_are_accepted(tmp_path, monkeypatch):
    monkeypatch.setattr(submission, "client_of", lambda _address: (_ for _ in ()).throw(OSError("reached")))
    changes = [
        "tokenizer.path=gpt2",
        "trunk.path=facebook/opt-125m",
        "data.inputs=['s3://b/x', 'python-docs:']",
    ]
    config = load_config(None, ["tracking.uri=https://mlflow", "output=/shared/x", *changes])
    with pytest.raises(SubmissionError, match="reached"):
        submit("http://127.0.0.1:1", "prepare", None, [], config, say, folder=tmp_path)
    (tmp_path / "gpt2").mkdir()
    with pytest.raises(ConfigError, match=r"tokenizer\.path=gpt2"):
        submit("http://127.0.0.1:1", "prepare", None, [], config, say, folder=tmp_path)


@pytest.mark.parametrize(
    "argument", ["data.inputs=[https://me:hunter2@host/a]", "data.inputs=https://h/a?X-Amz-Signature=hunter2"]
)
def test_a_secret_in_a_submission_is_refused(argument, tmp_path):
    config = load_config(None, ["tracking.uri=https://mlflow", "output=/shared/x"])
    with pytest.raises(ConfigError, match=r"\$\{VARIABLE\}") as caught:
        submit("http://127.0.0.1:1", "prepare", None, [argument], config, say, folder=tmp_path)
    (tmp_path / "c.yaml").write_text(argument.replace("=", ": ", 1))
    with pytest.raises(ConfigError, match="holds a secret"):
        submit("http://127.0.0.1:1", "prepare", str(tmp_path / "c.yaml"), [], config, say, folder=tmp_path)
    assert "hunter2" not in str(caught.value)


@pytest.mark.parametrize(
    "value",
    [
        "https://${USER}:${PASSWORD}@h/a",
        "https://h/a?X-Amz-Signature=${SIGNATURE}&x=1",
        "https://h/a?sig=${S}",
    ],
)
def test_a_variable_in_place_of_a_secret_is_accepted(value, tmp_path, monkeypatch, capsys):
    """The remedy of the refusal is itself accepted, in an override and in a file; the address shows no password."""
    sent = []

    class Client:
        def list_jobs(self):
            return []

        def submit_job(self, **options):
            with zipfile.ZipFile(options["runtime_env"]["working_dir"]) as package:
                sent.append(package.read("sllm-submitted.yaml").decode())
            return "job"

    monkeypatch.setattr(submission, "client_of", lambda _address: Client())
    monkeypatch.setattr(submission, "follow", lambda *_arguments: 0)
    for name in ("USER", "PASSWORD", "SIGNATURE", "S"):
        monkeypatch.setenv(name, "hunter2" + name)
    file = tmp_path / "c.yaml"
    file.write_text(f"data:\n  inputs: ['{value}']\n  dev_inputs: '/${{USER}}/dev'\n")
    overrides = ["tracking.uri=https://mlflow", "output=/shared/x"]
    config = load_config(str(file), overrides)
    assert "hunter2" in config.data.inputs[0]
    address = "http://me:hunter2@127.0.0.1:1"
    assert submit(address, "prepare", str(file), overrides, config, say, folder=tmp_path) == 0
    tree = yaml.safe_load(sent[0])
    assert tree["data"]["inputs"] == [value] and "hunter2PASSWORD" not in sent[0]
    assert tree["data"]["dev_inputs"] == ["/hunter2USER/dev"]  # what is no secret is resolved here
    assert "hunter2" not in capsys.readouterr().err
    file.write_text(sent[0])
    assert load_config(str(file)) == config


def test_a_folder_that_is_too_large_names_what_is_large(tmp_path, monkeypatch):
    class Client:
        def list_jobs(self):
            return []

        def submit_job(self, **_options):
            raise ValueError("Package size (120.00MiB) exceeds the maximum size of 100.00MiB. To exclude ...")

    monkeypatch.setattr(submission, "client_of", lambda _address: Client())
    (tmp_path / "weights").mkdir()
    (tmp_path / "weights" / "model.bin").write_bytes(bytes(2 * 2**20))
    (tmp_path / "runs").mkdir()
    (tmp_path / "runs" / "left_behind.bin").write_bytes(bytes(3 * 2**20))
    config = load_config(None, ["tracking.uri=https://mlflow"])
    with pytest.raises(SubmissionError, match=r"120\.00MiB.*: weights 2 MiB; move") as caught:
        submit("http://127.0.0.1:1", "run", None, [], config, say, folder=tmp_path)
    assert "runs" not in str(caught.value).split("largest in it")[1]


def test_a_lost_connection_repeats_no_line(monkeypatch, capsys):
    """The log comes from its start after each connection; what was printed is left out."""
    import ray.job_submission

    class Info:
        message, driver_exit_code = None, 0

        def __init__(self, status):
            self.status = ray.job_submission.JobStatus(status)

    class Client:
        connections = 0

        async def tail_job_logs(self, _job):
            self.connections += 1
            yield "one\n"
            if self.connections == 1:
                raise RuntimeError("WebSocket connection closed unexpectedly")
            yield "two\nthree\n"

        def get_job_info(self, _job):
            return Info("SUCCEEDED" if self.connections > 1 else "RUNNING")

    monkeypatch.setattr(submission.time, "sleep", lambda _seconds: None)
    assert submission.follow(Client(), "job", say) == 0
    assert capsys.readouterr().out == "one\ntwo\nthree\n"


@pytest.mark.parametrize("preset", names())
def test_the_configuration_arrives_as_it_was_resolved(preset, tmp_path):
    """With overrides, and from a file that lies outside of the folder that is sent."""
    file, overrides = str(FOLDER / f"{preset}.yaml"), ["output=/shared/x", "deepspeed.zero_stage=2"]
    config = load_config(file, overrides)
    (tmp_path / "sent.yaml").write_text(sent_config(config, file, overrides))
    assert load_config(str(tmp_path / "sent.yaml")) == config


def test_a_secret_below_a_key_that_names_one_is_sent_as_a_variable_or_not_at_all(monkeypatch):
    monkeypatch.setenv("MINE", "hunter2")
    by_name = ["segmenter.options={api_key: '${MINE}'}"]  # not a path, so it is no variable: kept as it is
    assert "${MINE}" in sent_config(load_config(None, by_name), None, by_name)
    written = ["segmenter.options={api_key: hunter2}"]
    with pytest.raises(ConfigError, match=r"^api_key=\*\*\*: a secret is not sent"):
        sent_config(load_config(None, written), None, written)


def test_a_folder_that_hides_our_packages_is_not_sent(tmp_path):
    """A checkout is sent whole; elsewhere a folder of the same name would be imported in place of ours."""
    folder = tmp_path / "work"
    for name in ("jobs", "infra", "tests", "own"):
        (folder / name).mkdir(parents=True)
        (folder / name / "__init__.py").write_text("")
    for name in ("pipeline.py", "my_module.py"):
        (folder / name).write_text("")
    assert list(submitted_files(folder)) == ["my_module.py", "own/__init__.py", "tests/__init__.py"]
    for name in ("segmenters/__init__.py", "pipeline/__init__.py", "pipeline/lineage.py", "jobs/verbs.py"):
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_text("")
    assert {"jobs/verbs.py", "infra/__init__.py", "pipeline/lineage.py"} <= submitted_files(folder).keys()


def test_the_same_folder_gives_the_same_bytes(tmp_path):
    """Ray names an upload by its digest, and does not repeat it."""
    (tmp_path / "work").mkdir()
    script = tmp_path / "work" / "run.sh"
    script.write_text("#!/bin/sh\n")
    script.chmod(0o755)
    for name in ("a.zip", "b.zip"):
        write_package(tmp_path / "work", "output: /x\n", tmp_path / name)
        script.touch()
    assert (tmp_path / "a.zip").read_bytes() == (tmp_path / "b.zip").read_bytes()
    with zipfile.ZipFile(tmp_path / "a.zip") as package:
        assert package.namelist() == ["run.sh", "sllm-submitted.yaml"]
        assert package.getinfo("run.sh").external_attr >> 16 & 0o111


def test_the_variables_of_the_job_hold_no_secret(monkeypatch):
    """Ray's dashboard and Jobs API show them."""
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "https://me:hunter2@mlflow")
    monkeypatch.setenv("MLFLOW_EXPERIMENT_NAME", "mine")
    monkeypatch.setenv("HF_TOKEN", "hunter2")
    assert submission._environment("c0ffee") == {
        "RAY_JOB_STOP_SIGNAL": "SIGINT",
        "SLLM_GIT_COMMIT": "c0ffee",
        "MLFLOW_EXPERIMENT_NAME": "mine",
    }
