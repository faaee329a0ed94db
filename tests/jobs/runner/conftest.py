"""A small job, and small models of each kind, that tests of the runner share."""

import json
import shutil
from pathlib import Path

import pytest

from jobs import prepare
from jobs.runner.execution import run_job
from jobs.training import train_lm, train_sllm, train_vae
from pipeline.config import load_config
from pipeline.errors import SllmError
from pipeline.lineage import artifact_of
from tests.jobs.runner.small_models import TEXT, config, runs


@pytest.fixture
def job(tmp_path, tracking_uri):
    """Run a small job that writes one file; further arguments change it."""
    (tmp_path / "corpus.txt").write_text("Some text.")
    output = tmp_path / "out"
    calls = []

    def write(run):
        calls.append(run.run_id)
        run.log_metrics({"loss": 0.5}, 1)
        Path(run.output, "model.safetensors").write_text("w" * len(calls))
        return {"final": 0.25, "loss": 0.5}

    def start(*overrides, body=write, force=False, name="train-lm", inputs=None):
        return run_job(
            name,
            load_config(None, [f"tracking.uri={tracking_uri}", *overrides]),
            sections=["lm", "trunk.config"],
            inputs=[artifact_of(tmp_path / "corpus.txt")] if inputs is None else inputs,
            output=str(output),
            output_kind="model",
            body=body,
            force=force,
        )

    start.calls, start.output = calls, output
    return start


@pytest.fixture(scope="session")
def root(tmp_path_factory, empty_store):
    """A folder with shards, a corpus, an empty store, and one small model of each kind."""
    root = tmp_path_factory.mktemp("checks")
    rows = [{"id": f"{i}", "text": TEXT * (1 + i % 5) + f"Story {i} ends here."} for i in range(60)]
    (root / "corpus.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    shutil.copy(empty_store, root / "mlflow.db")
    prepare.run(config(root, "shards", "tokenizer.vocab_size=300"))
    train_lm.run(config(root, "lm"))
    train_vae.run(config(root, "vae", f"models.lm={root}/lm"))
    train_sllm.run(config(root, "sllm", f"models.lm={root}/lm", f"models.vae={root}/vae"))
    return root


@pytest.fixture
def refused(root):
    """Assert that a job is refused with one of our errors, without a run or an output -> the message."""

    def check(module, *overrides, error=SllmError, match=""):
        before = runs(root)
        with pytest.raises(error, match=match):
            module.run(config(root, "out", *overrides))
        assert runs(root) == before
        assert not (root / "out").exists()

    return check
