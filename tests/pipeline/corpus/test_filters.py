from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.config import FilterConfig
from pipeline.corpus.filters import (
    Deduplicator,
    ExactDuplicates,
    Language,
    Length,
    NearDuplicates,
    build_filters,
)
from pipeline.errors import ConfigError

STORY = "The quick brown fox jumps over the lazy dog, and runs away into the dark wood behind the hill. "


def repeated(step: Deduplicator, texts: list[str]) -> list[bool]:
    return step.repeated(np.array([step.sign(text) for text in texts])).tolist()


@settings(max_examples=50)
@given(st.lists(st.sampled_from(["a", " a\n", "b", "c c", "é"]), min_size=1, max_size=12))
def test_of_equal_texts_the_first_stays(texts: list[str]) -> None:
    seen = [text.strip() for text in texts]
    assert repeated(ExactDuplicates(), texts) == [text in seen[:i] for i, text in enumerate(seen)]


def test_of_texts_that_are_nearly_the_same_the_first_stays() -> None:
    story = " ".join(f"{STORY}{number}" for number in range(40))
    other = " ".join(f"word{number} is new" for number in range(400))
    texts = [other, story, story + " An end.", "Short.", "A beginning. " + story, other[:300], "Short."]
    assert repeated(NearDuplicates(), texts) == [False, False, True, False, True, False, True]


def test_length_and_language() -> None:
    assert Length(min_characters=5).objection("four") == "4 characters, fewer than 5"
    assert Length(max_characters=3).objection("four") == "4 characters, more than 3"
    assert Length(min_characters=4, max_characters=4).objection("four") is None
    english = Language(languages=["en"])
    assert english.objection(STORY) is None
    assert english.objection("Der schnelle braune Fuchs springt über den faulen Hund.") is not None


@pytest.mark.parametrize(
    ("name", "options", "named"),
    [
        ("length", {"min_words": 3}, "length does not take these options"),
        ("language", {"languages": ["xx"]}, "not \\['xx'\\]"),
        ("language", {"languages": []}, "language filter has"),
    ],
)
def test_wrong_options_are_named(name: str, options: dict[str, object], named: str) -> None:
    with pytest.raises(ConfigError, match=named):
        build_filters([FilterConfig.model_validate({"name": name, "options": options})])


@pytest.mark.parametrize(
    ("filters", "named"),
    [
        ([("length", {"min_characters": "few"})], "option min_characters"),
        ([("near_duplicates", {"bands": 1.5})], "option bands"),
        ([("language", {"languages": "en"})], "option languages"),
        ([("length", {"min_characters": 3}), ("length", {"max_characters": 9})], "is named twice"),
    ],
)
def test_values_of_another_type_and_filters_named_twice_are_refused(
    filters: list[tuple[Any, dict[str, object]]], named: str
) -> None:
    with pytest.raises(ConfigError, match=named):
        build_filters([FilterConfig(name=name, options=options) for name, options in filters])
