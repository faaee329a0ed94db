import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import segmenters
from segmenters import Segmenter, SegmenterError
from segmenters.batching import CONTEXT, WINDOW
from segmenters.contract import check_ends

PIECES = st.one_of(
    st.text(),
    st.text(alphabet=st.characters(), max_size=30),  # lone surrogates too
    st.sampled_from(
        [
            "",
            " ",
            "\n",
            "\r\n",
            "\r",
            "\0",
            "\ud800",
            "\u200b",
            "\u200f",
            "\ufeff",
            "\x85",
            "\u2028",
            "é",
            "Dr. A. Smith paid $3.50. ",
            "他说：“好。”然后走了。",
            'He said "Go!" to me... and (left.) ',
            "```\nx = [1,\n  2]\n```\n",
            'def f(x):\n    """Doc.\n\n    More."""\n    return (x +\n        1)\n',
            'a,b,"c\nd"\n1,2,"3 ""4""\n5"\n',
            "यह है। वह था॥ ",
            "هل هذا؟ نعم. ",
            "- one\n- two\n\n# Head\n",
            "we went there it was good ",
            "x" * 300,
        ]
    ),
)
TEXTS = st.lists(st.lists(PIECES, max_size=8).map("".join), max_size=5)


@pytest.fixture(scope="module", params=sorted(segmenters.BUILT_IN))
def segmenter(request: pytest.FixtureRequest) -> Segmenter:
    try:
        return segmenters.load(request.param)
    except SegmenterError as error:
        pytest.skip(str(error))


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(texts=TEXTS)
def test_ends_fulfil_the_contract(segmenter: Segmenter, texts: list[str]) -> None:
    found = segmenter.split(texts)
    assert len(found) == len(texts)
    for text, ends in zip(texts, found, strict=True):
        assert ends.dtype == np.int64
        check_ends(text, ends)
        sentences = [text[a:b] for a, b in zip([0, *ends], ends, strict=False)]
        assert "".join(sentences) == text


@settings(max_examples=50, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(texts=TEXTS)
def test_a_text_is_split_the_same_alone_and_in_a_batch(segmenter: Segmenter, texts: list[str]) -> None:
    together = segmenter.split(texts)
    for text, ends in zip(texts, together, strict=True):
        np.testing.assert_array_equal(segmenter.split([text])[0], ends)


@pytest.mark.parametrize(
    "text",
    [
        "x" * (2 * WINDOW + 3),
        " " * (WINDOW + CONTEXT),
        "\n" * (2 * WINDOW),
        "word " * (WINDOW // 2),
        "Here is one. " * (WINDOW // 5),
        '"' * WINDOW,
        "([{" * (WINDOW // 2),
        "字" * (WINDOW + 1),
    ],
    ids=lambda text: text[:12],
)
def test_long_texts_are_lossless(segmenter: Segmenter, text: str) -> None:
    check_ends(text, segmenter.split([text])[0])


def test_the_fingerprint_is_plain_data_and_names_the_segmenter(segmenter: Segmenter) -> None:
    import json

    fingerprint = segmenter.fingerprint()
    assert json.loads(json.dumps(fingerprint)) == fingerprint
    assert fingerprint["name"] == segmenter.name
