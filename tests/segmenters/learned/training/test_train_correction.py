import json
from pathlib import Path

from segmenters.learned.correction.segmenter import LearnedV2
from segmenters.learned.training.correction import CorrectionSettings
from segmenters.learned.training.ideographs import IdeographSettings
from segmenters.learned.training.open_places import statistics
from segmenters.learned.training.train import CARD_NAME, WEIGHTS_NAME
from segmenters.learned.training.train_correction import CorrectionTraining


def test_training_writes_weights_that_load_and_a_card(tmp_path: Path) -> None:
    gold = tmp_path / "gold.jsonl"
    lines = []
    for number in range(30):
        text = f"Number {number} is here. It is {number}!"
        lines.append(json.dumps({"text": text, "ends": [text.index(" It"), len(text)]}) + "\n")
    gold.write_text("".join(lines))
    raw = tmp_path / "raw.jsonl"
    raw.write_text(json.dumps({"text": "This is a line of prose. It has two sentences."}) + "\n")
    training = CorrectionTraining(
        gold={str(gold): 1.0},
        raw={str(raw): 1.0},
        settings=CorrectionSettings(steps=3, batch=32),
        ideographs=IdeographSettings(steps=1),
        held_out_fraction=0.06,
        num_threads=1,
        seed=0,
        licence_note="All of it is ours.",
    )
    digests = []
    for name in ("a", "b"):
        reports: list[dict[str, float]] = []
        scores = training.train(tmp_path / name, {"steps": 3}, reports.append)
        assert reports[-1]["step"] == 3
        assert set(scores) == {"held_out/gold/f1", "held_out/gold/f1_of_rule"}
        segmenter = LearnedV2(weights=str(tmp_path / name / WEIGHTS_NAME))
        digests.append(segmenter.weights_digest)
    assert digests[0] == digests[1]
    card = (tmp_path / "a" / CARD_NAME).read_text()
    assert digests[0] in card and "All of it is ours." in card and "`raw.jsonl`" in card and "steps 3" in card


def test_statistics_tell_capitals_and_abbreviations() -> None:
    text = "He saw approx. five men. He saw approx. 7 men. He knew John. The men, approx. two, knew John. John ran. "
    found = statistics([text * 3], 2**10)

    def step(word: str) -> tuple[int, int]:
        import numpy as np

        from segmenters.learned.correction.words import WordIndex, rows_of
        from segmenters.rules.kinds import classified

        code_N, kind_N = classified(f"\n{word}\n")
        first = WordIndex(code_N, kind_N).words_from(np.array([1]))
        row = rows_of(first.hash_M, found.check_V)
        return divmod(int(found.step_V[row[0]]), 8)

    assert step("approx")[1] > step("men")[1] >= 1
    assert step("men")[0] > step("john")[0] >= 1
    assert step("absent") == (0, 0)
