"""The learned segmenter is not worse than a rule, on labelled sentences of 24 treebanks (see `gold/README.md`)."""

import functools
import json
import lzma
from collections import defaultdict
from pathlib import Path

import pytest

from segmenters import load
from segmenters.scoring import LabelledText, score

LEAST = -0.002
"""F1 of `learned_v2` minus that of each rule, on each set."""
FOLDER = Path(__file__).parent / "gold"
SETS = (
    *("da-ddt", "de-gsd", "en-ewt", "es-gsd", "fa-seraji", "fi-ftb", "fr-gsd", "he-iahltwiki", "hr-set"),
    *("hy-armtdp", "id-gsd", "ja-gsd", "ko-gsd", "nl-alpino", "no-bokmaal", "pt-bosque"),
    *("pt-gsd", "ro-rrt", "ru-gsd", "sk-snk", "sv-talbanken", "tr-boun", "vi-vtb", "zh-gsdsimp"),
)


@functools.cache
def gold() -> dict[str, list[LabelledText]]:
    """The texts of each set."""
    found: dict[str, list[LabelledText]] = defaultdict(list)
    with lzma.open(FOLDER / "sentences.jsonl.xz", "rt", encoding="utf-8") as lines:
        for document in map(json.loads, lines):
            found[document["set"]].append(LabelledText(document["text"], tuple(document["ends"])))
    return found


def test_every_set_is_there_and_described() -> None:
    texts = gold()
    assert sorted(texts) == sorted(SETS)
    described = (FOLDER / "README.md").read_text(encoding="utf-8")
    assert all(f"| {name} |" in described for name in SETS)
    assert f"{sum(len(text.ends) for found in texts.values() for text in found):,} sentences" in described
    assert sum(file.stat().st_size for file in FOLDER.iterdir()) < 400_000


@pytest.mark.parametrize("rule", ["punctuation_v1", "punctuation_v2"])
@pytest.mark.parametrize("name", SETS)
def test_learned_is_not_worse_than_a_rule(name: str, rule: str) -> None:
    texts = gold()[name]
    assert score(load("learned_v2"), texts).f1 - score(load(rule), texts).f1 >= LEAST


def test_the_sets_tell_segmenters_apart() -> None:
    """So the test above can fail."""
    texts = [text for found in gold().values() for text in found]
    names = ("reference_v1", "punctuation_v1", "punctuation_v2", "learned_v2")
    reference, first, second, learned = (score(load(name), texts).f1 for name in names)
    assert reference + 0.1 < first < second < learned
