"""Submission to a real cluster of the test's own: dashboard, token authentication, its own ports."""

import json
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
import requests

from infra.tracking.store import client_of
from pipeline.lineage import read_record
from tests.jobs.cli.test_import_path import CONSOLE_SCRIPT, SEGMENTER
from tests.ports import free_ports, is_open

pytestmark = pytest.mark.ray
REPOSITORY = Path(__file__).parents[3]


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

    private: Path
    """Another working folder, with a segmenter of one's own and folders named as our packages."""

    def sllm(self, *arguments: str, folder: Path | None = None, **environment: str) -> subprocess.Popen[str]:
        """Start `sllm ARGUMENTS` in the folder."""
        return subprocess.Popen(
            [sys.executable, "-P", self.private.parent / "sllm", *arguments],
            cwd=folder or self.folder,
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
    (folder / "sllm").write_text(CONSOLE_SCRIPT)
    for name in ("jobs", "infra"):
        (folder / "private" / name).mkdir(parents=True)
        (folder / "private" / name / "__init__.py").write_text(
            "raise SystemExit('the user's was imported')\n"
        )
    (folder / "private" / "my_module.py").write_text(SEGMENTER)
    kept = {key: value for key, value in os.environ.items() if not key.startswith(("RAY_", "SLLM_"))}
    environment = {
        **kept,
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
        "RAY_AUTH_MODE": "token",
        "RAY_AUTH_TOKEN_PATH": str(token),
        "RAY_USAGE_STATS_ENABLED": "0",
        "SLLM_GIT_COMMIT": "c0ffee",
        "PYTHONPATH": str(REPOSITORY),  # what is installed, here and on the cluster
    }
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
        wait_for(lambda: is_open(ports[1]), seconds=300)
        yield TestCluster(f"http://127.0.0.1:{ports[1]}", environment, folder / "code", folder / "private")
    finally:
        head.terminate()  # it ends the processes it started, and no other cluster's
        try:
            head.wait(40)
        except subprocess.TimeoutExpired:
            os.killpg(head.pid, signal.SIGKILL)
            head.wait()
        shutil.rmtree(folder, ignore_errors=True)


def wait_for(condition, seconds: float) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "waited too long"
        time.sleep(0.2)


def test_a_private_folder_is_submitted_and_log_and_result_come_back(cluster, tracking_uri, tmp_path):
    """Its segmenter is found by the job, its folders `jobs/` and `infra/` hide nothing, and a variable that only the
    submitter has is resolved; the cluster is the one that RAY_ADDRESS names."""
    corpus = tmp_path / "a b.jsonl"
    corpus.write_text(
        "".join(f'{{"id": {n}, "text": "Sentence {n}. Same\\nAnother one."}}\n' for n in range(50))
    )
    output = tmp_path / "shards"
    arguments = [
        "prepare",
        f"output={output}",
        f"tracking.uri={tracking_uri}",
        "data.inputs=['${MINE}/a b.jsonl']",
    ]
    arguments += ["prepare.num_workers=1", "tokenizer.vocab_size=300", "segmenter.name=my_module:Lines"]
    mine = {"RAY_ADDRESS": cluster.address, "MINE": str(tmp_path), "HF_TOKEN": "hunter2hunter2"}
    job = cluster.sllm(*arguments, "--submit", "auto", folder=cluster.private, **mine)
    stdout, stderr = job.communicate(timeout=300)
    assert job.returncode == 0, stdout + stderr
    assert stdout.count("starts as MLflow run") == 1
    named, *_, submitted, sent, _, ended = stderr.splitlines()  # nothing of Ray's own chatter
    assert named == f"cluster {cluster.address}, which RAY_ADDRESS names"
    assert submitted.startswith("submitted prepare-") and ended.endswith(" succeeded")
    assert "(without infra, jobs, which would hide our packages)" in sent
    record = read_record(output)
    assert record is not None and record.output_is_whole
    assert (record.metrics["train/documents"], record.metrics["train/sentences"]) == (50, 100)
    made_from = [(artifact.kind, artifact.path) for artifact in record.inputs]
    assert made_from == [("corpus", str(corpus)), ("segmenter", "my_module:Lines")]
    tags = client_of(tracking_uri).get_run(record.run_id).data.tags
    assert tags["ray.submission_id"].startswith("prepare-") and tags["ray.submission_id"] in stderr
    # The whole record that Ray keeps and shows.
    shown = requests.get(f"{cluster.address}/api/jobs/", headers=authorization(cluster), timeout=60).text
    assert tags["ray.submission_id"] in shown and "sllm.identity" in shown and "hunter2" not in shown


def authorization(cluster) -> dict[str, str]:
    token = Path(cluster.environment["RAY_AUTH_TOKEN_PATH"]).read_text().strip()
    return {"Authorization": f"Bearer {token}"}


def test_the_exit_code_is_the_jobs_and_a_variable_goes_by_its_name_alone(cluster, tracking_uri, tmp_path):
    """The submitter has the variable, the cluster does not."""
    arguments = [
        "prepare",
        f"output={tmp_path / 'out'}",
        f"tracking.uri={tracking_uri}",
        "data.inputs=[/x.txt]",
    ]
    job = cluster.sllm(*arguments, "ray.environment=[MINE]", "--submit", cluster.address, MINE="hunter2")
    stdout, stderr = job.communicate(timeout=300)
    assert job.returncode == 2, stdout + stderr
    assert "ray.environment: MINE not set on" in stdout and "Traceback" not in stdout
    name = next(line for line in stderr.splitlines() if line.startswith("submitted ")).split()[1]
    follower = cluster.sllm("logs", name, "-f", "--address", cluster.address)
    assert follower.communicate(timeout=180)[0] == stdout and follower.returncode == 2


def test_interrupt_stops_the_job(cluster, tracking_uri, tmp_path):
    arguments = ["generate", f"output={tmp_path / 'out'}", f"tracking.uri={tracking_uri}"]
    job = cluster.sllm(*arguments, "--submit", cluster.address)
    wait_for((tmp_path / "out" / "started").exists, seconds=180)
    job.send_signal(signal.SIGINT)
    _, stderr = job.communicate(timeout=180)
    assert job.returncode == 130, stderr
    assert "stopping generate-" in stderr
    record = read_record(tmp_path / "out")
    assert record is not None and client_of(tracking_uri).get_run(record.run_id).info.status == "KILLED"


def test_a_detached_job_is_found_again(cluster, tracking_uri, tmp_path):
    output = tmp_path / "out"
    arguments = ["generate", f"output={output}", f"tracking.uri={tracking_uri}", "--submit", cluster.address]

    def sllm(*arguments: str) -> tuple[int, str, str]:
        # RAY_ADDRESS must not count beside the address that is given.
        job = cluster.sllm(*arguments, RAY_ADDRESS="http://127.0.0.1:1")
        stdout, stderr = job.communicate(timeout=180)
        return job.returncode, stdout, stderr

    code, stdout, stderr = sllm(*arguments, "--detach")
    assert code == 0 and stdout.startswith("generate-"), stderr
    name = stdout.strip()
    assert f"sllm logs {name} -f --address {cluster.address}" in stderr
    wait_for((output / "started").exists, seconds=180)
    code, stdout, stderr = sllm(*arguments, "--detach")
    assert (code, stdout) == (0, f"{name}\n") and "is not started again" in stderr
    at = ("--address", cluster.address)
    (running,) = json.loads(sllm("status", "--json", *at)[1])
    assert (running["id"], running["status"], running["verb"]) == (name, "RUNNING", "generate")
    assert (running["output"], running["code_version"]) == (str(output), "c0ffee")
    assert running["host"] == socket.gethostname()
    assert "starts as MLflow run" in sllm("logs", name, *at)[1]
    code, _, stderr = sllm("stop", name, *at)
    assert code == 0 and stderr == f"{name} has ended: STOPPED\n"
    assert sllm("logs", name, "-f", *at)[0] == 130
    assert name in sllm("list", *at)[1]
    record = read_record(output)
    assert record is not None and client_of(tracking_uri).get_run(record.run_id).info.status == "KILLED"


def test_a_wrong_token_is_an_error_of_one_line(cluster, tmp_path):
    (tmp_path / "token").write_text("f" * 64)
    arguments = ["prepare", f"output={tmp_path}", f"tracking.uri=sqlite:///{tmp_path}/m.db"]
    job = cluster.sllm(*arguments, "--submit", cluster.address, RAY_AUTH_TOKEN_PATH=str(tmp_path / "token"))
    _, stderr = job.communicate(timeout=180)
    assert job.returncode == 1
    assert "refuses the token" in stderr and "RAY_AUTH_TOKEN" in stderr
    assert "Traceback" not in stderr
