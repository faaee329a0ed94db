import json
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from segmenters import SegmenterError, load
from segmenters.learned.segmenter import SHIPPED_WEIGHTS, Learned


def parts(text: str, **options: float | None) -> list[str]:
    ends = Learned(**options).split([text])[0]  # type: ignore[arg-type]
    return [text[a:b] for a, b in zip([0, *ends], ends, strict=False)]


@pytest.mark.parametrize(
    "marked",
    [
        "Dr. Smith came home at 3.15 p.m. yesterday. |He was tired! |Was he?",
        "Er kam am 3. Mai nach Hause. |Dann schlief er.",
        "¿Qué pasa? |No lo sé. |Vamos a casa.",
        "他说：“好。”|然后走了！|真的吗？",
        'x = [1,\n     2]\n|# Note. Well.\n|def f():\n|    return "a. B"\n',
        'id,said\n|1,"Hello. You\nthere."\n|2,x\n|3,y\n',
        "Some text. |More of it.\n\n|```python\n|x = [1,\n     2]\n|```\n|And so on.",
    ],
)
def test_splits(marked: str) -> None:
    assert parts(marked.replace("|", "")) == marked.split("|")


def test_boundaries_without_any_mark_are_found_where_words_tell() -> None:
    text = "i do not know what you mean what do you want from me i think we should go home now"
    assert 2 <= len(parts(text)) <= 5


def test_a_higher_threshold_is_coarser() -> None:
    text = (
        "well i went home then later she came what do you think of that maybe you should ask her thanks " * 9
    )
    counts = [len(parts(text, threshold=threshold)) for threshold in (0.05, 0.5, 0.95)]
    assert counts[0] > counts[1] > counts[2] >= 1


def test_limits_of_length_are_kept_and_words_are_not_cut() -> None:
    text = "This is a rather long sentence, which has a comma, and then goes on until its end. Short. " * 20
    sentences = parts(text, max_sentence_tokens=8, min_sentence_tokens=3)
    assert "".join(sentences) == text
    assert all(2 <= len(sentence.split()) <= 8 for sentence in sentences)
    assert any(sentence.endswith(", ") for sentence in sentences)


def test_weights_decide_the_digest() -> None:
    assert Learned().weights_digest == Learned(weights=str(SHIPPED_WEIGHTS)).weights_digest
    assert len(Learned().fingerprint()["weights"]) == 64


def test_the_shipped_weights_are_small() -> None:
    assert SHIPPED_WEIGHTS.stat().st_size <= 4_000_000


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"threshold": 0.0}, "between 0 and 1"),
        ({"min_sentence_tokens": 9, "max_sentence_tokens": 8}, "1 <= min <= max"),
        ({"weights": "gone.safetensors"}, "cannot read the weights gone.safetensors"),
    ],
)
def test_bad_options_are_refused(options: dict[str, object], says: str) -> None:
    with pytest.raises(SegmenterError, match=says):
        load("learned_v1", **options)


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
