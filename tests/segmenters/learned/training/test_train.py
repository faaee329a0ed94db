import dataclasses
import json
from pathlib import Path

from segmenters.learned.segmenter import Learned
from segmenters.learned.training.punctuated import PunctuatedSettings
from segmenters.learned.training.train import CARD_NAME, WEIGHTS_NAME, SegmenterTraining
from segmenters.learned.training.unpunctuated import UnpunctuatedSettings
from segmenters.learned.weights_file import SHIPPED_WEIGHTS


def training(tmp_path: Path) -> SegmenterTraining:
    gold = tmp_path / "gold.jsonl"
    lines = []
    for number in range(30):
        text = f"Number {number} is here. It is {number}!"
        lines.append(json.dumps({"text": text, "ends": [text.index(" It"), len(text)]}) + "\n")
    gold.write_text("".join(lines))
    raw = tmp_path / "raw.jsonl"
    raw.write_text(json.dumps({"text": "This is a long enough line of prose. It has two sentences."}) + "\n")
    return SegmenterTraining(
        gold={str(gold): 1.0},
        raw={str(raw): 2.0},
        punctuated=PunctuatedSettings(steps=2),
        unpunctuated=UnpunctuatedSettings(steps=2),
        start_from=None,
        held_out_fraction=0.06,
        num_threads=1,
        seed=0,
        licence_note="All of it is ours.",
    )


def test_training_writes_weights_that_load_and_a_card(tmp_path: Path) -> None:
    output = tmp_path / "out"
    output.mkdir()
    reports: list[dict[str, float]] = []
    own = training(tmp_path)
    scores = own.train(output, {"steps": 2}, reports.append)
    assert reports[-1]["step"] == 2
    assert set(scores) == {"held_out/gold/f1", "held_out/gold-stripped/f1"}
    segmenter = Learned(weights=str(output / WEIGHTS_NAME))
    assert segmenter.split(["One. Two."])[0][-1] == 9
    card = (output / CARD_NAME).read_text()
    assert segmenter.weights_digest in card and "All of it is ours." in card and "`raw.jsonl`" in card
    assert "steps 2" in card and "6% of the texts" in card

    adapted = tmp_path / "adapted"
    adapted.mkdir()
    dataclasses.replace(own, start_from=SHIPPED_WEIGHTS).train(adapted, {}, reports.append)
    assert Learned(weights=str(adapted / WEIGHTS_NAME)).weights_digest != segmenter.weights_digest
