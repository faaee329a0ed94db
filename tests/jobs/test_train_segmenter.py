import json
from pathlib import Path

import pytest

from jobs.train_segmenter import CARD_NAME, WEIGHTS_NAME, run, train
from pipeline.config import SegmenterSource, SegmenterTrainConfig, load_config
from pipeline.errors import ConfigError
from segmenters.learned.segmenter import Learned


def settings(tmp_path: Path, **changes: object) -> SegmenterTrainConfig:
    gold = tmp_path / "gold.jsonl"
    lines = []
    for number in range(30):
        text = f"Number {number} is here. It is {number}!"
        lines.append(json.dumps({"text": text, "ends": [text.index(" It"), len(text)]}) + "\n")
    gold.write_text("".join(lines))
    raw = tmp_path / "raw.jsonl"
    raw.write_text(json.dumps({"text": "This is a long enough line of prose. It has two sentences."}) + "\n")
    return SegmenterTrainConfig(
        gold=(SegmenterSource(path=str(gold)),),
        raw=(SegmenterSource(path=str(raw), weight=2.0),),
        steps=2,
        unpunctuated_steps=2,
        num_threads=1,
        licence_note="All of it is ours.",
    ).model_copy(update=changes)


def test_training_writes_weights_that_load_and_a_card(tmp_path: Path) -> None:
    output = tmp_path / "out"
    output.mkdir()
    reports: list[dict[str, float]] = []
    scores = train(settings(tmp_path), output, reports.append)
    assert reports[-1]["step"] == 2
    assert set(scores) == {"held_out/gold/f1", "held_out/gold-stripped/f1"}
    segmenter = Learned(weights=str(output / WEIGHTS_NAME))
    assert segmenter.split(["One. Two."])[0][-1] == 9
    card = (output / CARD_NAME).read_text()
    assert segmenter.weights_digest in card and "All of it is ours." in card and "`raw.jsonl`" in card

    adapted = tmp_path / "adapted"
    adapted.mkdir()
    train(settings(tmp_path, start_from="shipped", steps=1), adapted, reports.append)
    assert Learned(weights=str(adapted / WEIGHTS_NAME)).weights_digest != segmenter.weights_digest


def test_it_needs_gold_and_a_place_for_the_result() -> None:
    with pytest.raises(ConfigError, match=r"needs segmenter_training\.gold"):
        run(load_config(None, ["output=x"]))
