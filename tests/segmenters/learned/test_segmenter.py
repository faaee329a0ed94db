import pytest

from segmenters import SegmenterError, load
from segmenters.learned.segmenter import Learned


def parts(text: str, **options: float | None) -> list[str]:
    ends = Learned(**options).split([text])[0]  # type: ignore[arg-type]
    return [text[a:b] for a, b in zip([0, *ends], ends, strict=False)]


@pytest.mark.parametrize(
    "bars",
    [
        "Dr. Smith came home at 3.15 p.m. yesterday. |He was tired! |Was he?",
        "Er kam am 3. Mai nach Hause. |Dann schlief er.",
        "¿Qué pasa? |No lo sé. |Vamos a casa.",
        "他说：“好。”|然后走了！|真的吗？",
        'x = [1,\n     2]\n|# Note. Well.\n|def f():\n|    return "a. B"\n',
        'id,said\n|1,"Hello. You\nthere."\n|2,x\n|3,y\n',
        "Some text. |More of it.\n\n|```python\n|x = [1,\n     2]\n|```\n|And so on.",
    ],
)
def test_splits(bars: str) -> None:
    assert parts(bars.replace("|", "")) == bars.split("|")


def test_boundaries_are_found_in_unpunctuated_text() -> None:
    text = "i do not know what you mean what do you want from me i think we should go home now"
    assert 2 <= len(parts(text)) <= 5


def test_a_higher_threshold_is_coarser() -> None:
    text = (
        "well i went home then later she came what do you think of that maybe you should ask her thanks " * 9
    )
    counts = [len(parts(text, threshold=threshold)) for threshold in (0.05, 0.5, 0.95)]
    assert counts[0] > counts[1] > counts[2] >= 1


def test_length_constraints_are_met_and_words_are_not_cut() -> None:
    text = "This is a rather long sentence, which has a comma, and then goes on until its end. Short. " * 20
    sentences = parts(text, max_sentence_tokens=8, min_sentence_tokens=3)
    assert "".join(sentences) == text
    assert all(2 <= len(sentence.split()) <= 8 for sentence in sentences)
    assert any(sentence.endswith(", ") for sentence in sentences)


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"threshold": 0.0}, "between 0 and 1"),
        ({"min_sentence_tokens": 9, "max_sentence_tokens": 8}, "1 <= min <= max"),
        ({"weights": "gone.safetensors"}, "cannot read the weights gone.safetensors"),
    ],
)
def test_bad_options_are_refused(options: dict[str, object], says: str) -> None:
    with pytest.raises(SegmenterError, match=says):
        load("learned_v1", **options)
