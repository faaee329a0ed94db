import unicodedata

import pytest
import regex

from segmenters.characters import Kind
from segmenters.rules.kinds import COMMAS, classified
from segmenters.rules.segmenter import PunctuationV2
from segmenters.rules.words import CLASSES, word_lists

_ALL = "".join(chr(code) for code in range(0x110000) if not 0xD800 <= code < 0xE000)
SENTENCE_TERMINAL = [
    char for char in regex.findall(r"\p{Sentence_Terminal}", _ALL) if unicodedata.category(char) != "Cn"
]


def test_all_final_marks_of_unicode_are_terminators() -> None:
    _, kinds = classified("".join(SENTENCE_TERMINAL))
    wrong = [char for char, kind in zip(SENTENCE_TERMINAL, kinds, strict=True) if kind < Kind.TERMINATOR]
    assert len(SENTENCE_TERMINAL) > 100
    assert wrong == list(COMMAS)


@pytest.mark.parametrize(
    "mark", ["!", "?", "।", "؟", "۔", "։", "።", "။", "។", "།", "。", "᙮", "꓿", "܀", "᭞", "𑁇"]
)
def test_a_final_mark_of_any_script_ends_a_sentence(mark: str) -> None:
    text = f"abcd abcd{mark} Abcd abcd"
    assert PunctuationV2().split([text])[0].tolist() == [text.index("A"), len(text)]


def test_the_file_of_words_has_the_classes_that_are_asked_for() -> None:
    lists = word_lists()
    assert sorted(lists) == sorted(CLASSES)
    assert all(lists.values())
    assert [
        word for words in lists.values() for word in words if word != word.lower() or word.endswith(".")
    ] == []
