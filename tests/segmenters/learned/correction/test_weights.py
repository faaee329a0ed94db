import json
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from segmenters import SegmenterError, load
from segmenters.learned.correction.places import FEATURES, FEATURES_OF_EARLIER
from segmenters.learned.correction.weights_file import SHIPPED_WEIGHTS
from segmenters.learned.weights_file import SHIPPED_WEIGHTS as LEARNED_V1


def test_weights_decide_the_digest_and_are_small() -> None:
    shipped = load("learned_v2")
    assert shipped.fingerprint()["weights"] == load("learned_v2", weights=str(SHIPPED_WEIGHTS)).weights_digest
    assert SHIPPED_WEIGHTS.stat().st_size <= 4_000_000


def test_weights_of_another_segmenter_and_incomplete_ones_are_refused(tmp_path: Path) -> None:
    def refusal(file: Path) -> str:
        with pytest.raises(SegmenterError) as caught:
            load("learned_v2", weights=str(file)).weights_digest  # noqa: B018
        return str(caught.value)

    assert "have format version 2, but this sllm reads 3" in refusal(LEARNED_V1)
    data = SHIPPED_WEIGHTS.read_bytes()
    metadata = json.loads(data[8 : 8 + int.from_bytes(data[:8], "little")])["__metadata__"]
    tensors = load_file(SHIPPED_WEIGHTS)
    file = tmp_path / "w.safetensors"
    save_file(tensors, file, metadata={**metadata, "margins": "1"})
    assert "are incomplete: the margins" in refusal(file)
    other = tmp_path / "x.safetensors"
    del tensors["words.check3"]
    save_file(tensors, other, metadata=metadata)
    assert "are incomplete: 'words.check3'" in refusal(other)


def test_weights_with_fewer_features_and_no_languages_still_load(tmp_path: Path) -> None:
    """Those of earlier versions: they see the features that they were trained on."""
    data = SHIPPED_WEIGHTS.read_bytes()
    metadata = json.loads(data[8 : 8 + int.from_bytes(data[:8], "little")])["__metadata__"]
    del metadata["features"]
    metadata["margins"] = "5 3 5 4 3.5 3"
    tensors = {key: one for key, one in load_file(SHIPPED_WEIGHTS).items() if "languages" not in key}
    sizes = list(FEATURES.values())
    more = np.arange(sum(sizes[:FEATURES_OF_EARLIER]), sum(sizes))
    file = tmp_path / "w.safetensors"
    save_file(tensors, file, metadata=metadata)
    with pytest.raises(SegmenterError):
        load("learned_v2", weights=str(file)).weights_digest  # noqa: B018
    tensors["correction.table"] = np.delete(tensors["correction.table"], more, axis=0)
    file = tmp_path / "x.safetensors"
    save_file(tensors, file, metadata=metadata)
    earlier = load("learned_v2", weights=str(file))
    assert len(earlier.split(["He came. She went to St. Mary."])[0]) == 2
    assert (
        len(earlier.split(["일본 사진 보여줘 스타벅스까지 가는 버스 알려줘 지금 문 연 음식점 있어"])[0]) == 1
    )  # no place after a verb


def test_weights_without_the_network_for_ideographs_still_load(tmp_path: Path) -> None:
    """Those of earlier versions."""
    data = SHIPPED_WEIGHTS.read_bytes()
    metadata = json.loads(data[8 : 8 + int.from_bytes(data[:8], "little")])["__metadata__"]
    del metadata["ideographs_shift"]
    tensors = {key: one for key, one in load_file(SHIPPED_WEIGHTS).items() if "ideographs" not in key}
    file = tmp_path / "w.safetensors"
    save_file(tensors, file, metadata=metadata)
    earlier = load("learned_v2", weights=str(file))
    assert earlier.fingerprint()["weights"] != load("learned_v2").fingerprint()["weights"]
    text = "He came. She went to St. Mary. 他来了。她走了。"
    assert earlier.split([text])[0].tolist() == load("learned_v2").split([text])[0].tolist()
    assert len(earlier.split(["我们" * 100])[0]) >= 1
