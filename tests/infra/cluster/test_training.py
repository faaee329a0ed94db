"""Ray Train and DeepSpeed, started as the jobs start them, have the curve of the plain loop and leave its model."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from infra.checkpoints.folder import CheckpointFolder
from infra.cluster.training import train_on_cluster
from infra.local_training import train_locally
from jobs.prepare import prepare
from pipeline.config import load_config
from pipeline.errors import TrainingError
from pipeline.models.sentence_vae import SentenceVae

TRAIN = (
    "{steps: 4, micro_batch_tokens: 200, micro_batches_per_step: 2, eval_every: 2, log_every: 1, "
    "checkpoint_every: 1, checkpoint_async: true}"
)


@pytest.fixture(scope="module")
def config(tmp_path_factory):
    folder = tmp_path_factory.mktemp("ray-training")
    rows = [{"id": f"{i}", "text": f"A cat sat on mat {i}. It slept. " * (1 + i % 4)} for i in range(40)]
    (folder / "corpus.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    config = load_config(
        None,
        [
            f'data.inputs=["{folder / "corpus.jsonl"}"]', "data.dev_fraction=0.2", "launcher=local",
            "tokenizer.vocab_size=280", "prepare.num_workers=1", f"shards={folder / 'shards'}",
            f"vae.train={TRAIN}", "deepspeed.zero_stage=2", "ray.max_failures=0",
        ],
    )  # fmt: skip
    prepare(config, config.shards)
    return config


def test_the_cluster_and_one_process_agree(config, ray_cluster, tmp_path, monkeypatch):
    monkeypatch.chdir(Path(config.shards).parent)
    config = config.model_copy(update={"shards": "shards"})  # workers have another working folder
    curves: list[list[dict[str, float]]] = [[], []]
    on_cluster, locally = tmp_path / "on-cluster", tmp_path / "locally"
    checkpoints = str(tmp_path / "ray" / "checkpoints")
    train_on_cluster("train-vae", config, checkpoints, str(on_cluster), curves[0].append)
    train_locally(
        "train-vae", config, str(tmp_path / "local" / "checkpoints"), str(locally), curves[1].append
    )
    assert [metrics["step"] for metrics in curves[0]] == [1, 2, 3, 4]
    for mine, theirs in zip(*curves, strict=True):
        assert mine.keys() == theirs.keys()
        for name in mine.keys() - {"train/tokens_per_second", "train/data_wait_fraction"}:
            assert mine[name] == pytest.approx(theirs[name], rel=1e-3), (name, mine["step"])
    # Written in the background, and whole; the newest two are kept.
    assert [path.name for path in sorted(Path(checkpoints).iterdir())] == ["step-000000003", "step-000000004"]
    assert CheckpointFolder(checkpoints).newest_step() == 4
    # The run resumes under the other launcher: here there is nothing left to do but to copy the model.
    again: list[dict[str, float]] = []
    train_locally("train-vae", config, checkpoints, str(tmp_path / "again"), again.append)
    assert [(point["step"], point["again"]) for point in again] == [(step, 1) for step in (1, 2, 3, 4)]
    assert (tmp_path / "again" / "model.safetensors").is_file()
    shapes = [
        [(name, p.shape) for name, p in SentenceVae.from_pretrained(path).named_parameters()]
        for path in (on_cluster, locally)
    ]
    assert shapes[0] == shapes[1]


def test_an_error_in_a_worker_reaches_the_driver_as_one_line(config, ray_cluster, tmp_path):
    missing = config.model_copy(update={"shards": str(tmp_path / "nothing")})
    with pytest.raises(TrainingError, match="nothing"):
        train_on_cluster(
            "train-vae", missing, str(tmp_path / "checkpoints"), str(tmp_path / "model"), lambda metrics: None
        )


def test_a_run_in_an_object_store_resumes_from_the_last_whole_checkpoint(config, ray_cluster, s3, tmp_path):
    s3.mkdir("runs")
    whole, first = {}, {}
    train_locally(
        "train-vae",
        config,
        str(tmp_path / "checkpoints"),
        str(tmp_path / "model"),
        lambda metrics: whole.update({metrics["step"]: metrics}),
    )

    def stop(metrics):
        first[metrics["step"]] = metrics
        if metrics["step"] == 4:
            raise KeyboardInterrupt

    checkpoints, output = "s3://runs/first/checkpoints", "s3://runs/first"
    with pytest.raises(KeyboardInterrupt):
        train_locally("train-vae", config, checkpoints, output, stop)
    assert CheckpointFolder(checkpoints).names() == ["step-000000003", "step-000000002"]
    # A flipped bit in the newest, and what a killed upload left.
    file = "runs/first/checkpoints/step-000000003/state-00000-of-00001.safetensors"
    content = bytearray(s3.cat_file(file))
    content[-1] ^= 1
    s3.pipe_file(file, bytes(content))
    s3.pipe_file(file.replace("3/state", "4/state"), bytes(content))
    two_workers = config.model_copy(update={"ray": config.ray.model_copy(update={"num_workers": 2})})
    done = subprocess.run(
        [
            *(sys.executable, Path(__file__).with_name("train_apart.py"), ray_cluster),
            *(two_workers.model_dump_json(), checkpoints, output),
        ],
        env={**os.environ, "TMPDIR": str(tmp_path), "PYTHONPATH": os.pathsep.join(sys.path)},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert (
        "passed over: the checkpoint in s3://runs/first/checkpoints/step-000000003 is damaged" in done.stderr
    )
    reported = [json.loads(line) for line in done.stdout.splitlines()]
    resumed = [metrics for metrics in reported if "again" not in metrics]  # else points of the checkpoint
    assert [metrics["step"] for metrics in resumed] == [3, 4]
    for metrics in resumed:
        for name in ("train/nll_per_token", "train/tokens"):
            assert metrics[name] == pytest.approx(whole[metrics["step"]][name], rel=1e-3)
    s3.invalidate_cache()
    left = {path.split("/")[3] for path in s3.find(checkpoints)}
    assert left == {"step-000000003", "step-000000004"}
    assert {path.rpartition("/")[2] for path in s3.find(output, maxdepth=1)} >= {
        "config.json",
        "model.safetensors",
    }
