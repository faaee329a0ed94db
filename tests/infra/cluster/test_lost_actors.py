"""On a cluster with labels and fake GPUs training outlives its actors: the curve is that of one undisturbed process."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from infra.local_training import train_locally
from jobs.prepare import prepare
from pipeline.config import load_config
from tests.faults.processes import descendants, send, title, wait_for

pytestmark = pytest.mark.ray
STEPS, CHECKPOINT_EVERY = 90, 5
TRAIN = (
    f"{{steps: {STEPS}, micro_batch_tokens: 200, micro_batches_per_step: 6, eval_every: {STEPS}, log_every: 1, "
    f"checkpoint_every: {CHECKPOINT_EVERY}}}"
)
LIMIT_SECONDS = 600


@pytest.mark.skipif(sys.platform != "linux", reason="finds processes in /proc")
def test_training_outlives_its_actors(tmp_path):
    from ray.cluster_utils import Cluster

    rows = [{"id": f"{i}", "text": f"A cat sat on mat {i}. It slept. " * (1 + i % 4)} for i in range(40)]
    (tmp_path / "corpus.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    overrides = [
        f'data.inputs=["{tmp_path / "corpus.jsonl"}"]', "data.dev_fraction=0.2", "tokenizer.vocab_size=280",
        "prepare.num_workers=1", f"shards={tmp_path / 'shards'}", f"vae.train={TRAIN}",
    ]  # fmt: skip
    config = load_config(None, [*overrides, "launcher=local"])
    prepare(config, config.shards)
    undisturbed: list[dict[str, float]] = []
    train_locally("train-vae", config, str(tmp_path / "c"), str(tmp_path / "m"), undisturbed.append)

    small = {"include_dashboard": False, "object_store_memory": 10**8}
    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 0, **small})
    try:
        cluster.add_node(num_cpus=2, num_gpus=2, labels={"pool": "train"}, object_store_memory=10**8)
        cluster.add_node(num_cpus=2, labels={"pool": "other"}, object_store_memory=10**8)
        on_cluster = ["ray.use_gpu=true", "ray.node_labels={pool: train}", f"ray.address={cluster.address}"]
        driver = subprocess.Popen(
            [sys.executable, "-m", "tests.infra.cluster.faulty_run", str(tmp_path), *overrides, *on_cluster],
            stderr=subprocess.PIPE,
            text=True,
            env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        )
        try:
            curve = tmp_path / "curve.jsonl"
            _kill_at(4, "ray::ReportQueue", cluster, curve, driver)
            _kill_at(12, "ray::TrainController", cluster, curve, driver)
            _, said = driver.communicate(timeout=LIMIT_SECONDS)
        finally:
            driver.kill()
    finally:
        cluster.shutdown()
    assert driver.returncode == 0, said
    lines = said.splitlines()
    assert any(line.startswith("connected to the Ray cluster") and "2 GPUs" in line for line in lines)
    assert any("PyTorch finds no CUDA" in line for line in lines)
    assert any(line.startswith("Ray's train controller died. Training restarts from step") for line in lines)
    assert "Traceback" not in said and "(raylet)" not in said
    points = _points(curve)
    assert [point["step"] for point in points] == list(range(1, STEPS + 1))
    for mine, theirs in zip(points, undisturbed, strict=True):
        assert mine["train/nll_per_token"] == pytest.approx(theirs["train/nll_per_token"], rel=1e-3, abs=1e-5)
    assert (tmp_path / "model" / "model.safetensors").is_file()


def _points(curve: Path) -> list[dict[str, float]]:
    return [json.loads(line) for line in curve.read_text().splitlines()] if curve.exists() else []


def _kill_at(step: int, name: str, cluster, curve: Path, driver) -> None:
    """Kill the process of this title when the step has been reported."""
    assert (
        wait_for(lambda: len(_points(curve)) >= step or driver.poll() is not None, LIMIT_SECONDS)
        and driver.poll() is None
    ), driver.stderr.read() if driver.poll() is not None else "no step was reported"
    roots = [
        process.process.pid
        for node in cluster.list_all_nodes()
        for processes in node.all_processes.values()
        for process in processes
    ]
    found = {pid for root in roots for pid in descendants(root) if title(pid).startswith(name)}
    assert len(found) == 1, found
    send(found.pop(), signal.SIGKILL)
