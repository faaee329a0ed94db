"""A segmenter is trained on files at URLs into a URL, and its weights are used from there."""

import json
import shutil
from pathlib import Path
from typing import Any

import fsspec
import pytest

import segmenters
from jobs.runner.output.folder import record_at
from jobs.training import train_segmenter
from pipeline.config import load_config
from segmenters.learned.training.train import SegmenterTraining
from segmenters.learned.weights_file import SHIPPED_WEIGHTS

ROWS = [
    {"text": f"One {i}. Two is here. ", "ends": [len(f"One {i}. "), len(f"One {i}. Two is here. ")]}
    for i in range(40)
]


def test_a_segmenter_at_a_url(tmp_path: Path, tracking_uri: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def train(training: SegmenterTraining, folder: Path, *_: Any) -> dict[str, float]:
        """Takes no time: what it reads and writes is the question."""
        (gold,) = training.gold
        assert len(Path(gold).read_text().splitlines()) == len(ROWS)
        shutil.copy(SHIPPED_WEIGHTS, folder / "segmenter.safetensors")
        (folder / "MODEL_CARD.md").write_text("A card.")
        return {"f1": 1.0}

    monkeypatch.setattr(SegmenterTraining, "train", train)
    system = fsspec.filesystem("memory")
    system.pipe_file("/segmenter/gold.jsonl", "".join(json.dumps(row) + "\n" for row in ROWS).encode())
    options = (
        "{gold: [{path: 'memory://segmenter/gold.jsonl'}], steps: 1, unpunctuated_steps: 1, num_threads: 1}"
    )
    config = load_config(
        None,
        [
            f"segmenter_training={options}",
            "output=memory://segmenter/trained",
            f"stream.cache={tmp_path}/cache",
            f"tracking.uri={tracking_uri}",
        ],
    )
    record = train_segmenter.run(config)
    assert set(record.files) == {"segmenter.safetensors", "MODEL_CARD.md"}
    again = record_at("memory://segmenter/trained")
    assert again is not None and again.output == record.output and len(record.output.digest) == 64
    assert train_segmenter.run(config).run_id == record.run_id  # reused
    weights = "memory://segmenter/trained/segmenter.safetensors"
    trained = segmenters.load("learned_v1", weights=weights)
    assert trained.fingerprint()["options"]["weights"] == weights
    (ends,) = trained.split(["One. Two."])
    assert ends[-1] == len("One. Two.")
