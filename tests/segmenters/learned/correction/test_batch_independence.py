"""The answers of `learned_v2` for a text are the same whatever texts are split with it."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from segmenters import load

PIECES = (
    *("He went. ", "Mr. ", "She said: ", "\n", "\r\n", "\n\n", "NATO ", "e.g. ", "In 1990 ", "„Ja.“ ", "— "),
    *(
        "word ",
        "Word ",
        "3. ",
        "... ",
        "? ",
        "(No.) ",
        "今日は。",
        "ว่า ",
        "ประเทศไทยมีประชากรจำนวนมากในเมือง ",
        " ",
        "end.Next ",
    ),
    "and so it went on and on without any mark at all until it was over and he went home and slept ",
)
texts = st.lists(st.sampled_from(PIECES), max_size=12).map("".join)


@given(text=texts, before=texts, after=texts)
def test_other_texts_change_nothing(text: str, before: str, after: str) -> None:
    segmenter = load("learned_v2")
    alone = segmenter.split([text])[0]
    assert np.array_equal(segmenter.split([before, text, after, before])[1], alone)
