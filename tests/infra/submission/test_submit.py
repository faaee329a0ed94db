"""What is checked before a submission, and how its log is followed; no cluster."""

import pytest

from infra.submission import submit as submission
from infra.submission.submit import SubmissionError, submit
from jobs.runner.console import say
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


def test_a_configuration_outside_the_folder_is_refused(tmp_path):
    (tmp_path / "c.yaml").write_text("")
    (tmp_path / "code").mkdir()
    config = load_config(None, ["tracking.uri=https://mlflow"])
    with pytest.raises(ConfigError, match="lies outside"):
        submit(
            "http://127.0.0.1:1", "run", str(tmp_path / "c.yaml"), [], config, say, folder=tmp_path / "code"
        )


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
            sent.append(options["entrypoint"])
            return "job"

    monkeypatch.setattr(submission, "client_of", lambda _address: Client())
    monkeypatch.setattr(submission, "follow", lambda *_arguments: 0)
    config = load_config(None, ["tracking.uri=https://mlflow", "output=/shared/x"])
    argument = f"data.inputs=[{value}]"
    (tmp_path / "c.yaml").write_text(f"data:\n  inputs: ['{value}']\n")
    address = "http://me:hunter2@127.0.0.1:1"
    assert submit(address, "prepare", str(tmp_path / "c.yaml"), [argument], config, say, folder=tmp_path) == 0
    assert value in sent[0] and "hunter2" not in capsys.readouterr().err


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
