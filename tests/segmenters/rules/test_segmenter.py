import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from segmenters.batching import WINDOW
from segmenters.rules.segmenter import PunctuationV2

SEGMENTER = PunctuationV2()


def sentences(text: str, **options: bool) -> list[str]:
    ends = PunctuationV2(**options).split([text])[0]
    return [text[a:b] for a, b in zip([0, *ends], ends, strict=False)]


def test_without_line_breaks_only_an_empty_line_ends_a_sentence() -> None:
    assert sentences("One\nTwo\n\nThree\r\nfour", line_breaks=False) == ["One\nTwo\n\n", "Three\r\nfour"]


def test_a_long_text_is_split_like_its_parts() -> None:
    sentence = "Mr. Smith went home, and so on and on it went for him. "
    count = 3 * WINDOW // len(sentence)
    ends = PunctuationV2().split([sentence * count])[0]
    assert ends.tolist() == [len(sentence) * (i + 1) for i in range(count)]


MARKS = ". ! ? … 。 ． ” “ \" ' ) ( [ ] 1 12 3. A Mr The the 、 」と 中 ไทย 니다 요 ա: ; α; ፡፡ :) 😀 [1] ,, — end.Next"
SPACES = ("\n", "\r\n", "\x85", "\u2028", "\t", " ", " ", " ")
PIECES = st.sampled_from([*MARKS.split(), *SPACES, "\ud800", "x" * 90 + "\n", "word " * 9 + "\n"])


@settings(max_examples=200, deadline=None)
@given(st.lists(st.lists(PIECES, max_size=20).map("".join), min_size=2, max_size=4))
def test_a_text_is_split_the_same_beside_any_other(texts: list[str]) -> None:
    together = SEGMENTER.split(texts)
    for text, ends in zip(texts, together, strict=True):
        assert np.array_equal(ends, SEGMENTER.split([text])[0])
