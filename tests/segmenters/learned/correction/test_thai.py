"""Thai, on `thai_sentences.txt`: sentences in the manner of news and encyclopedias, written for these tests.

They are taken from no text, so F1 on them is no measure of F1 on real text."""

import re
from pathlib import Path

import numpy as np

from segmenters import load
from segmenters.scoring import LabelledText, score, score_ends

FIRST = "ประเทศไทยมีประชากรมากกว่าหกสิบล้านคนในปัจจุบัน"
SECOND = "กรุงเทพมหานครเป็นเมืองหลวงและเมืองที่ใหญ่ที่สุด"
SENTENCES = (Path(__file__).parent / "thai_sentences.txt").read_text(encoding="utf-8").splitlines()


def ends(text: str) -> list[int]:
    return load("learned_v2").split([text])[0].tolist()


def pieces(text: str) -> list[str]:
    return [text[a:b].strip() for a, b in zip([0, *ends(text)], ends(text), strict=False)]


def test_a_space_between_long_clauses_ends_a_sentence() -> None:
    assert ends(f"{FIRST} {SECOND}") == [len(FIRST) + 1, len(FIRST) + len(SECOND) + 1]


def test_no_sentence_ends_before_a_conjunction_or_beside_a_number() -> None:
    for text in (f"{FIRST} และ{SECOND}", f"{FIRST}ว่า {SECOND}", f"{FIRST} 20 {SECOND}", f"{FIRST} คน"):
        assert ends(text) == [len(text)]


def test_a_full_stop_after_a_thai_letter_is_of_an_abbreviation() -> None:
    text = f"เขาเกิดเมื่อ พ.ศ. 2490 ใน{FIRST}"
    assert pieces(f"{text} {SECOND}") == [text, SECOND]


def test_the_sign_of_repetition_and_lists_end_no_sentence() -> None:
    for text in (f"ภาษาต่าง ๆ ใน{FIRST}", "พวกเขาเดินทางไปหลายเมือง เช่น ลอนดอน ปารีส และเบอร์ลิน"):
        assert pieces(text) == [text]


def test_better_than_a_sentence_at_every_space() -> None:
    text = " ".join(SENTENCES)
    gold = LabelledText(text, tuple(np.cumsum([len(sentence) + 1 for sentence in SENTENCES]) - 1))
    spaces = np.array([*(found.end() for found in re.finditer(" ", text)), len(text)])
    every = score_ends([spaces], [gold]).f1
    assert every > 0.5
    assert score(load("learned_v2"), [gold]).f1 > every + 0.25


def test_paragraphs_are_split_alone() -> None:
    first, second = (" ".join(part) for part in (SENTENCES[:20], SENTENCES[20:]))
    assert pieces(f"{first}\n\n{second}") == [*pieces(first), *pieces(second)]
