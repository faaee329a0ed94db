import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from segmenters.characters import Kind, code_points, kinds, word_starts


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        (" \u00a0\u3000", Kind.SPACE),
        ("\n\r\x85\u2028", Kind.BREAK),
        ("aß", Kind.LOWER),
        ("AÉ", Kind.UPPER),
        ("א", Kind.LETTER),
        ("1٣²", Kind.DIGIT),
        ("\u0301\u200d", Kind.MARK),
        ("中ไ", Kind.IDEOGRAPH),
        ("$\ud800", Kind.SYMBOL),
        (",،、", Kind.PAUSE),
        ("\"'", Kind.QUOTE),
        (".?।", Kind.TERMINATOR),
        ("。！", Kind.FREE_TERMINATOR),
    ],
)
def test_kinds(text: str, kind: Kind) -> None:
    assert kinds(text).tolist() == [kind] * len(text)


@given(st.text(alphabet=st.characters()))
def test_code_points_and_kinds_have_one_entry_per_character(text: str) -> None:
    assert code_points(text).tolist() == list(map(ord, text))
    assert len(kinds(text)) == len(text)
    spaces = kinds(text) <= Kind.BREAK
    assert spaces.tolist() == list(map(str.isspace, text))


def test_word_starts_are_after_white_space() -> None:
    assert np.array_equal(word_starts(kinds(" a  b\nc")), [1, 4, 6])
