"""A small job, and small models of each kind, that tests of the runner share."""

from pathlib import Path

import pytest

from jobs.runner.execution import run_job
from pipeline.config import load_config
from pipeline.lineage import artifact_of


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
