"""`python -m tests.faults.detached`: a job is submitted with --detach from a terminal that dies; it trains, and a node
dies too.

A cluster of three nodes with token authentication, a bucket of moto, an MLflow server on PostgreSQL. Whether it held is
read from MLflow's own client and the bucket.
"""

import contextlib
import json
import os
import pty
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import urllib.request
from pathlib import Path

from tests.faults.cluster import Cluster
from tests.faults.histories import names
from tests.faults.jobs import STEPS
from tests.faults.processes import wait_for
from tests.faults.world import BUCKET, World
from tests.infra.tracking.mlflow_server import mlflow_server
from tests.infra.tracking.postgres import postgres

LOSS = "train/nll_per_token"
TRAINS_WITHIN, ENDS_WITHIN = 420.0, 900.0


class Terminal:
    """A terminal in which one command runs; its death hangs the command up."""

    def __init__(self, arguments: list[str], environment: dict[str, str], folder: Path) -> None:
        self.pid, self._screen = pty.fork()
        if self.pid == 0:
            os.chdir(folder)
            os.execve(sys.executable, [sys.executable, "-m", "jobs", *arguments], environment)  # noqa: S606

    def read(self, seconds: float) -> str:
        """What the command prints until it ends."""
        shown = b""
        until = time.monotonic() + seconds
        while time.monotonic() < until:
            try:
                data = os.read(self._screen, 4096)
            except OSError:  # the command has ended
                break
            if not data:
                break
            shown += data
        return shown.decode(errors="replace")

    def submission_id(self) -> str:
        """The submission id that the command prints last; what it printed where there is none."""
        shown = self.read(240)
        return [shown[-500:], *re.findall(r"\brun-[0-9a-f]+\b", shown)][-1]

    def die(self) -> None:
        """Close it, as a closed window or a lost connection does."""
        os.close(self._screen)
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.pid, signal.SIGHUP)
        os.waitpid(self.pid, 0)


def scene(root: Path) -> list[tuple[str, bool, str]]:
    """Run it -> rows of the table: what must hold, whether it did, what was seen."""
    world = World(root)
    environment = {**world.environment, "RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN_PATH": str(root / "token")}
    (root / "token").write_text(os.urandom(32).hex())
    cluster = Cluster(root, environment, dashboard=True)
    try:
        undisturbed = world.undisturbed("train-lm")
        world.cluster.kill()
        bucket = world.bucket
        _upload(root / "corpus.jsonl", f"{bucket}/corpus.jsonl")
        with (
            tempfile.TemporaryDirectory(prefix="sllm-postgres-") as data,
            postgres(Path(data)) as database,
            mlflow_server(database, root) as (port, _),
        ):
            cluster.start()
            tracking_uri = f"http://127.0.0.1:{port}"
            rows = _through_faults(root, cluster, environment, bucket, tracking_uri)
            assert undisturbed.runs is not None
            losses = undisturbed.runs.points[LOSS]
            return rows + _stored(tracking_uri, {step: values[0] for step, values in losses.items()})
    finally:
        cluster.kill()
        world.close()


def _through_faults(
    root: Path, cluster: Cluster, environment: dict[str, str], bucket: str, tracking_uri: str
) -> list[tuple[str, bool, str]]:
    folder = root / "work"
    folder.mkdir()
    shutil.copy(root / "config.yaml", folder)
    arguments = [
        *(
            "run",
            "config.yaml",
            'run.jobs=["prepare","train-lm"]',
            f"data.inputs=[s3://{BUCKET}/corpus.jsonl]",
        ),
        *(f"output=s3://{BUCKET}/run", "launcher=ray", f"tracking.uri={tracking_uri}"),
        *("tracking.experiment=detached", "--submit", cluster.dashboard, "--detach"),
    ]

    def sllm(*command: str) -> str:
        done = subprocess.run(
            [sys.executable, "-m", "jobs", *command, "--address", cluster.dashboard],
            cwd=folder,
            env=environment,
            capture_output=True,
            text=True,
            timeout=120,
        )
        return done.stdout or done.stderr

    def state(job: str) -> str:
        try:
            return str(json.loads(sllm("status", job, "--json"))["status"])
        except (ValueError, KeyError):
            return "unknown"

    terminal = Terminal(arguments, environment, folder)
    job = terminal.submission_id()
    terminal.die()
    rows = [("sllm status finds it after the terminal's death", state(job) in ("PENDING", "RUNNING"), job)]

    def has_checkpoint() -> bool:
        return any("checkpoints/step-" in name for name in names(f"{bucket}/run"))

    def has_ended() -> bool:
        return state(job) not in ("PENDING", "RUNNING")

    wait_for(lambda: has_checkpoint() or has_ended(), TRAINS_WITHIN, 2.0)
    begun = has_checkpoint()
    rows.append(("it trains", begun, "a checkpoint is in the bucket" if begun else sllm("logs", job)[-300:]))
    again = Terminal(arguments, environment, folder)
    second = again.submission_id()
    again.die()
    rows.append(("submitted again, the running one is found", second == job, second))
    cluster.kill_node(1)
    time.sleep(5)
    cluster.start()
    start = time.monotonic()
    ended = wait_for(has_ended, ENDS_WITHIN, 5.0)
    rows.append(
        ("it outlives a node", ended and state(job) == "SUCCEEDED", f"{time.monotonic() - start:.0f} s more")
    )
    if rows[-1][1] is False:
        print(sllm("logs", job)[-3000:], file=sys.stderr)
    return rows


def _stored(tracking_uri: str, undisturbed: dict[int, float]) -> list[tuple[str, bool, str]]:
    from mlflow import MlflowClient

    client = MlflowClient(tracking_uri)
    experiment = client.get_experiment_by_name("detached")
    runs = client.search_runs([experiment.experiment_id]) if experiment is not None else []
    above = "run"  # the run above those of the jobs is of no job
    found = sorted((run.data.tags.get("sllm.job", above), run.info.status) for run in runs)
    once = found == [(job, "FINISHED") for job in ("prepare", above, "train-lm")]
    rows = [("one run in MLflow for each job", once, str(found))]
    training = next((run for run in runs if run.data.tags.get("sllm.job") == "train-lm"), None)
    if training is None:
        return rows
    points = [(point.step, point.value) for point in client.get_metric_history(training.info.run_id, LOSS)]
    steps = sorted(step for step, _ in points)
    rows.append(
        ("each step once", steps == list(range(1, STEPS + 1)), f"{len(steps)} points of {STEPS} steps")
    )
    largest = max(
        (abs(value - undisturbed[step]) for step, value in points if step in undisturbed), default=9.9
    )
    rows.append(
        ("the curve is that of the undisturbed run", largest < 1e-4, f"largest difference {largest:.2g}")
    )
    return rows


def _upload(file: Path, url: str) -> None:
    headers = {"Content-Type": "application/octet-stream"}
    request = urllib.request.Request(url, data=file.read_bytes(), headers=headers, method="PUT")  # noqa: S310
    urllib.request.urlopen(request, timeout=30).close()  # noqa: S310


def main() -> int:
    """Print the table; 0 if every row held."""
    root = Path(tempfile.mkdtemp(prefix="sllm-detached-", dir="/tmp"))  # Unix sockets need a short path
    rows = scene(root)
    for what, held, seen in rows:
        print(f"{'held' if held else 'FAILED':<8}{what}: {seen}")
    if all(held for _, held, _ in rows):
        shutil.rmtree(root)
        return 0
    print(f"logs are in {root}")
    return 1


if __name__ == "__main__":
    sys.exit(main())
