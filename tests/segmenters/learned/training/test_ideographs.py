import json
import random
from pathlib import Path

import numpy as np

from segmenters.learned.training.examples import Example
from segmenters.learned.training.ideographs import (
    IdeographSettings,
    in_ideographs,
    reordered,
    sentences_of,
    texts_of,
    train_ideographs,
)

SENTENCES = ["这座城市很大，人口很多。", "他在北京大学学习。", "我们明天再见吧！", "这本书有二十章。"]


def test_sentences_of_a_raw_file_are_prose_in_ideographs(tmp_path: Path) -> None:
    text = "# 标题\n\n这座城市[很大](https://a.b)，人口`很多`。他在北京大学学习。x = 1\n\n"
    text += "```\n代码在这里。\n```\n\nThis is English.\n"
    file = tmp_path / "raw.jsonl"
    file.write_text(json.dumps({"text": text}) + "\n" + json.dumps({"text": text}) + "\n")
    assert sentences_of(file, 10_000) == SENTENCES[:2]
    assert in_ideographs(SENTENCES) and not in_ideographs([text])


def test_texts_are_their_sentences_in_another_order() -> None:
    (plain,) = texts_of(SENTENCES)
    assert plain.text == "".join(SENTENCES) and len(plain.ends) == 4
    texts = list(reordered([plain], random.Random(0), 2))
    assert len(texts) == 3 and texts[0] == plain
    assert all(sorted(one.text) == sorted(plain.text) for one in texts)


def test_training_learns_where_sentences_begin_and_repeats_exactly() -> None:
    rng = random.Random(0)
    texts = list(reordered(texts_of(SENTENCES * 30), rng, 2))
    settings = IdeographSettings(steps=40, stretch=32, batch_stretches=8, dropout=0.0, word_dropout=0.0)
    losses: list[float] = []

    def trained() -> dict[str, np.ndarray]:
        groups: list[tuple[list[Example], float]] = [(texts, 1.0), (texts, 1.0)]
        return train_ideographs(groups, settings, lambda m: losses.append(m["ideographs/loss"])).tensors()

    first, second = trained(), trained()
    assert losses[0] == losses[1] < 0.4
    assert first.keys() == second.keys() and all(np.array_equal(first[key], second[key]) for key in first)
