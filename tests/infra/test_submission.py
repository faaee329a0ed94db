"""Submission, against a real cluster of the test's own: dashboard, token authentication, its own ports."""

import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from infra import submission
from infra.mlflow_store import client_of
from infra.submission import SubmissionError, submit
from infra.submitted_files import submitted_files
from jobs.runner.console import say
from pipeline.config import load_config
from pipeline.errors import ConfigError
from pipeline.lineage import read_record

REPOSITORY = Path(__file__).parents[2]

ENDLESS_JOB = '''
"""Replaces `generate`: runs until it is stopped."""

import time
from pathlib import Path

from jobs.runner.execution import run_job


def run(config, force=False):
    def body(run):
        Path(run.output, "started").touch()
        time.sleep(600)

    return run_job("generate", config, sections=[], inputs=[], output=config.output, output_kind="report", body=body)
'''


@dataclass(frozen=True)
class TestCluster:
    address: str
    environment: dict[str, str]
    folder: Path
    """Holds a copy of our code, with a `generate` that never ends: what a person's checkout would be."""

    __test__ = False

    def sllm(self, *arguments: str, **environment: str) -> subprocess.Popen[str]:
        """Start `sllm ARGUMENTS` in the folder."""
        return subprocess.Popen(
            [sys.executable, "-m", "jobs", *arguments],
            cwd=self.folder,
            env={**self.environment, **environment},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )


@pytest.fixture(scope="module")
def cluster() -> Iterator[TestCluster]:
    # Unix sockets below it: their paths may have some 100 characters only.
    folder = Path(tempfile.mkdtemp(prefix="sllm-", dir="/tmp"))
    token = folder / "token"
    token.write_text(os.urandom(32).hex())
    (folder / "code").mkdir()
    for package in ("segmenters", "pipeline", "infra", "jobs"):
        shutil.copytree(REPOSITORY / package, folder / "code" / package)
    (folder / "code" / "jobs" / "generate.py").write_text(ENDLESS_JOB)
    kept = {key: value for key, value in os.environ.items() if not key.startswith(("RAY_", "SLLM_"))}
    environment = {
        **kept,
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
        "RAY_AUTH_MODE": "token",
        "RAY_AUTH_TOKEN_PATH": str(token),
        "RAY_USAGE_STATS_ENABLED": "0",
        "SLLM_GIT_COMMIT": "c0ffee",
    }
    environment.pop("PYTHONPATH", None)
    ports = free_ports(5)
    names = (
        *("port", "dashboard-port", "dashboard-agent-listen-port", "dashboard-agent-grpc-port"),
        "ray-client-server-port",
    )
    options = [f"--{name}={port}" for name, port in zip(names, ports, strict=True)]
    head = subprocess.Popen(
        [
            *(Path(sys.executable).parent / "ray", "start", "--head", "--block", "--num-cpus=1", *options),
            *(f"--temp-dir={folder / 'ray'}", "--object-store-memory=100000000"),
        ],
        env=environment,
        cwd=folder,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    try:
        wait_for(lambda: answers(ports[1]), seconds=180)
        yield TestCluster(f"http://127.0.0.1:{ports[1]}", environment, folder / "code")
    finally:
        head.terminate()  # it ends the processes it started, and no other cluster's
        try:
            head.wait(40)
        except subprocess.TimeoutExpired:
            os.killpg(head.pid, signal.SIGKILL)
            head.wait()
        shutil.rmtree(folder, ignore_errors=True)


def free_ports(count: int) -> list[int]:
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [each.getsockname()[1] for each in sockets]
    for each in sockets:
        each.close()
    return ports


def answers(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port), timeout=1).close()
    except OSError:
        return False
    return True


def wait_for(condition, seconds: float) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "waited too long"
        time.sleep(0.2)


def test_a_job_runs_on_the_cluster_and_its_log_and_result_come_back(cluster, tracking_uri, tmp_path):
    corpus = tmp_path / "a b.jsonl"
    corpus.write_text("".join(f'{{"id": {n}, "text": "Sentence {n}. Another one."}}\n' for n in range(50)))
    output = tmp_path / "shards"
    arguments = ["prepare", f"output={output}", f"tracking.uri={tracking_uri}", f"data.inputs=['{corpus}']"]
    arguments += ["prepare.num_workers=1", "tokenizer.vocab_size=300"]
    job = cluster.sllm(*arguments, "--submit", cluster.address)
    stdout, stderr = job.communicate(timeout=300)
    assert job.returncode == 0, stdout + stderr
    assert stdout.count("starts as MLflow run") == 1
    submitted, _, ended = stderr.splitlines()  # nothing of Ray's own chatter
    assert submitted.startswith("submitted raysubmit_") and ended.endswith(" succeeded")
    record = read_record(output)
    assert record is not None and record.output_is_whole
    assert (record.metrics["train/documents"], record.metrics["train/sentences"]) == (50, 100)
    made_from = [(artifact.kind, artifact.path) for artifact in record.inputs]
    assert made_from == [("corpus", str(corpus)), ("segmenter", "punctuation_v1")]
    tags = client_of(tracking_uri).get_run(record.run_id).data.tags
    assert tags["ray.submission_id"].startswith("raysubmit_") and tags["ray.submission_id"] in stderr
    assert tags["version.git"] == "c0ffee"


def test_the_exit_code_is_the_jobs(cluster, tracking_uri, tmp_path):
    job = cluster.sllm(
        *(
            "prepare",
            f"output={tmp_path / 'out'}",
            f"tracking.uri={tracking_uri}",
            "data.inputs=[/missing.txt]",
        ),
        *("--submit", cluster.address),
    )
    stdout, stderr = job.communicate(timeout=300)
    assert job.returncode == 2, stdout + stderr
    assert "/missing.txt" in stdout and "Traceback" not in stdout


def test_interrupt_stops_the_job(cluster, tracking_uri, tmp_path):
    arguments = ["generate", f"output={tmp_path / 'out'}", f"tracking.uri={tracking_uri}"]
    job = cluster.sllm(*arguments, "--submit", cluster.address)
    wait_for((tmp_path / "out" / "started").exists, seconds=180)
    job.send_signal(signal.SIGINT)
    _, stderr = job.communicate(timeout=180)
    assert job.returncode == 130, stderr
    assert "stopping raysubmit_" in stderr
    record = read_record(tmp_path / "out")
    assert record is not None and client_of(tracking_uri).get_run(record.run_id).info.status == "KILLED"


def test_a_wrong_token_is_an_error_of_one_line(cluster, tmp_path):
    (tmp_path / "token").write_text("f" * 64)
    arguments = ["prepare", f"output={tmp_path}", f"tracking.uri=sqlite:///{tmp_path}/m.db"]
    job = cluster.sllm(*arguments, "--submit", cluster.address, RAY_AUTH_TOKEN_PATH=str(tmp_path / "token"))
    _, stderr = job.communicate(timeout=180)
    assert job.returncode == 1
    assert "refuses the token" in stderr and "RAY_AUTH_TOKEN" in stderr
    assert "Traceback" not in stderr


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
    monkeypatch.setattr(submission, "_client", lambda _address: (_ for _ in ()).throw(OSError("reached")))
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


SECRET_FILES = [
    *(
        ".env",
        ".ssh/id_ed25519",
        "sub/.env",
        "sub/server.pem",
        "id_rsa",
        "deep/er/tls.key",
        "credentials.json",
    ),
    *(
        "gcp-service-account.json",
        ".aws/credentials",
        ".netrc",
        "prod.env",
        "my_secrets.yaml",
        "api_token.txt",
    ),
    *("SERVER.PEM", "Secrets.JSON", "credentials.csv", "sub/kubeconfig", "_netrc", "prod.tfvars", "key.asc"),
    *("secrets/plain.txt", "AuthKey.p8", "model.gguf", "pytorch_model.bin", "last.ckpt", "corpus.jsonl.xz"),
]
PLAIN_FILES = [
    *("my_segmenter.py", "sub/rules.py", "config.yaml", "tokenizer.json", "secret_sentences.py", "words.txt"),
    *("patterns.jsonl", "keyboard.py", "tokens.py", "segmenters/learned/weights/learned_v1.safetensors"),
]


def test_hidden_files_keys_and_credentials_are_never_sent(tmp_path):
    import zipfile

    from ray._private.runtime_env.packaging import _zip_files

    folder = tmp_path / "work"
    for name in (*SECRET_FILES, *PLAIN_FILES):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(name)
    (folder / ".gitignore").write_text("!.env\n!*.pem\n")
    (folder / "sub" / ".gitignore").write_text("!.env\n!server.pem\n")
    (tmp_path / "outside").mkdir()
    (tmp_path / "outside" / "private.py").write_text("x")
    (folder / "link").symlink_to("../outside")
    (folder / "a link [1]").symlink_to("../outside/private.py")
    assert list(submitted_files(folder)) == sorted(PLAIN_FILES)
    sent = submission._runtime_env(folder)
    _zip_files(str(folder), sent["excludes"], str(tmp_path / "p.zip"), include_gitignore=True)
    with zipfile.ZipFile(tmp_path / "p.zip") as package:
        names = {name for name in package.namelist() if not name.endswith("/")}
    assert names == set(PLAIN_FILES)


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
        def submit_job(self, **options):
            sent.append(options["entrypoint"])
            return "job"

    monkeypatch.setattr(submission, "_client", lambda _address: Client())
    monkeypatch.setattr(submission, "_follow", lambda *_arguments: 0)
    config = load_config(None, ["tracking.uri=https://mlflow", "output=/shared/x"])
    argument = f"data.inputs=[{value}]"
    (tmp_path / "c.yaml").write_text(f"data:\n  inputs: ['{value}']\n")
    address = "http://me:hunter2@127.0.0.1:1"
    assert submit(address, "prepare", str(tmp_path / "c.yaml"), [argument], config, say, folder=tmp_path) == 0
    assert value in sent[0] and "hunter2" not in capsys.readouterr().err


def test_a_folder_that_is_too_large_names_what_is_large(tmp_path, monkeypatch):
    class Client:
        def submit_job(self, **_options):
            raise ValueError("Package size (120.00MiB) exceeds the maximum size of 100.00MiB. To exclude ...")

    monkeypatch.setattr(submission, "_client", lambda _address: Client())
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
    assert submission._follow(Client(), "job", say) == 0
    assert capsys.readouterr().out == "one\ntwo\nthree\n"
