import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from segmenters.batching import SEPARATOR
from segmenters.learned.features import NUM_DENSITIES, PADDING, SURROUNDINGS, Features, extract_features
from segmenters.punctuation import Punctuation

TEXT = st.lists(
    st.sampled_from(["a", "B", "don't", "3.14", "...", "世界", "é", " ", "\n", "\n\n", ". ", "“", "\u0301"]),
    max_size=30,
).map("".join)


def features_of(*texts: str) -> tuple[str, Features]:
    batch = SEPARATOR + SEPARATOR.join(texts) + SEPARATOR
    starts = np.cumsum([len(SEPARATOR), *(len(text) + len(SEPARATOR) for text in texts[:-1])])
    return batch, extract_features(batch, starts, Punctuation().sentence_starts(batch, starts))


def words(text: str) -> list[str]:
    batch, features = features_of(text)
    spans = zip(features.start_W.tolist(), features.length_W.tolist(), strict=True)
    return [batch[start : start + length] for start, length in spans if start >= 0]


def test_a_word_is_a_run_of_letters_a_run_of_one_punctuation_mark_or_an_ideograph() -> None:
    assert words("Don't go... to 世界, v1.2!?") == [
        "Don't",
        "go",
        "...",
        "to",
        "世",
        "界",
        ",",
        "v1.2",
        "!",
        "?",
    ]
    assert words("the end.Next") == ["the", "end", ".", "Next"]


@given(TEXT)
def test_words_are_the_text_without_white_space(text: str) -> None:
    assert "".join(words(text)) == "".join(text.split())


@given(st.lists(TEXT.filter(str.strip), min_size=1, max_size=3))
def test_texts_in_a_batch_do_not_change_each_other(texts: list[str]) -> None:
    _, together = features_of(*texts)
    begin = PADDING
    for text in texts:
        _, alone = features_of(text)
        count = int((alone.start_W >= 0).sum())
        # The gap before the first word of a text is not compared: it depends on the end of the text before it.
        assert np.array_equal(
            together.gap_W[begin + 1 : begin + count], alone.gap_W[PADDING + 1 : PADDING + count]
        )
        for name in ("word_W", "suffix_W", "shape_W", "length_W"):
            mine = getattr(alone, name)[PADDING : PADDING + count]
            assert np.array_equal(getattr(together, name)[begin : begin + count], mine), name
        begin += count + PADDING


def test_densities_are_shares_of_the_surroundings_in_the_same_text() -> None:
    _, features = features_of("a . B c", "d " * (3 * SURROUNDINGS))
    density_WF = features.densities(features.word_W > 0)
    assert density_WF.shape == (len(features.start_W), NUM_DENSITIES)
    assert density_WF[PADDING].tolist() == [0.25, 0.0, 0.25, 1.0]
    assert not density_WF[2 * PADDING + 4 :, :3].any()


def test_candidates_are_all_words_of_unpunctuated_text_alone() -> None:
    _, features = features_of("we went home it was late ok", "He went. She stayed in")
    unpunctuated_W = features.unpunctuated(features.densities(features.word_W > 0))
    chosen = features.candidates(unpunctuated_W)
    assert chosen[:6].tolist() == list(range(PADDING + 1, PADDING + 7))
    assert chosen[6:].tolist() == [2 * PADDING + 7 + 3]
