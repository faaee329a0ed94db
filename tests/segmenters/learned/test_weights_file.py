import json
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from segmenters import SegmenterError, load
from segmenters.learned.segmenter import Learned
from segmenters.learned.weights_file import SHIPPED_WEIGHTS


def test_weights_decide_the_digest() -> None:
    assert Learned().weights_digest == Learned(weights=str(SHIPPED_WEIGHTS)).weights_digest
    assert len(Learned().fingerprint()["weights"]) == 64


def test_the_shipped_weights_are_small() -> None:
    assert SHIPPED_WEIGHTS.stat().st_size <= 4_000_000


def test_damaged_and_foreign_weights_are_refused(tmp_path: Path) -> None:
    data = SHIPPED_WEIGHTS.read_bytes()
    file = tmp_path / "w.safetensors"

    def refusal() -> str:
        with pytest.raises(SegmenterError) as caught:
            load("learned_v1", weights=str(file))
        return str(caught.value)

    file.write_bytes(data[:-1000])
    assert "are damaged" in refusal()
    header_size = int.from_bytes(data[:8], "little")
    metadata = json.loads(data[8 : 8 + header_size])["__metadata__"]
    tensors = load_file(SHIPPED_WEIGHTS)
    for number, (changed, kept, says) in enumerate(
        [
            ({"format_version": "999"}, tensors, "have format version 999"),
            ({"before": "3"}, tensors, "are incomplete: the layers do not fit"),
            ({}, {"a": np.zeros(1, np.float32)}, "are incomplete: 'marked.word"),
        ]
    ):
        file = tmp_path / f"{number}.safetensors"
        save_file(kept, file, metadata={**metadata, **changed})
        assert says in refusal()
