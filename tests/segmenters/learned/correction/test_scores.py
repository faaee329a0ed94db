"""`learned_v2` is not worse than the rule that it corrects."""

import os
from pathlib import Path

import pytest

from segmenters import load
from segmenters.learned.training.examples import read_gold
from segmenters.scoring import score

LEAST = -0.002
"""F1 of `learned_v2` minus that of `punctuation_v2`, on each set."""
DATA = Path(os.environ.get("SLLM_DATA", "no folder")) / "segmentation"
SETS = sorted(DATA.glob("*.dev.jsonl.gz"))


@pytest.mark.skipif(not SETS, reason="SLLM_DATA names no folder with segmentation/*.dev.jsonl.gz")
@pytest.mark.parametrize("path", SETS, ids=lambda path: path.name.split(".")[0])
def test_every_dev_set(path: Path) -> None:
    texts = list(read_gold(path))
    gain = score(load("learned_v2"), texts).f1 - score(load("punctuation_v2"), texts).f1
    assert gain >= LEAST


def test_a_sentence_alone_is_not_split() -> None:
    sentences = [
        "The committee met in the Great Hall of Saint John on Monday",
        "I saw Mr. Brown and Dr. Green in Washington, D.C. last week",
        "Das ist z. B. am 3. Mai in der Stadt Köln von Herrn Müller gesagt worden",
        "Il a dit « oui » à Mme. Durand dans la rue de la Paix",
        "В 1990 г. он жил в Москве на улице Ленина",
        "we went to the shop and bought some bread and milk and then we went home again",
    ]
    found = load("learned_v2").split(sentences)
    assert [len(ends) for ends in found] == [1] * len(sentences)


def test_a_missing_mark_before_a_word_that_begins_sentences() -> None:
    """The rule finds no boundary there."""
    first, second = (
        "Let me know if you have any questions ",
        "Thanks Mark will call you on Friday. It will begin at ten.",
    )
    rule, learned = (
        load(name).split([first + second])[0].tolist() for name in ("punctuation_v2", "learned_v2")
    )
    assert sorted([*rule, len(first)]) == learned
