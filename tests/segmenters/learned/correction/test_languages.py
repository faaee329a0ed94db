import numpy as np

from segmenters.learned.correction.languages import WORDS_OF_LANGUAGE, languages_of
from segmenters.learned.correction.words import checks, mixed, rows_of

RNG = np.random.default_rng(0)
ENGLISH, GERMAN, OTHER = (mixed(RNG.integers(1, 2**32, 50, np.uint32)) for _ in range(3))


def words(*languages: np.ndarray) -> np.ndarray:
    """The words around 40 places, each drawn from one of the languages."""
    return np.stack([RNG.choice(RNG.choice(languages), 40) for _ in range(40)])[:, :WORDS_OF_LANGUAGE]


def test_texts_in_the_languages_of_training_are_recognised() -> None:
    known = np.concatenate([ENGLISH, GERMAN])
    check_V = np.zeros(2**12, np.uint16)
    check_V[known & np.uint32(2**12 - 1)] = checks(known)
    vocabulary = [check_V] * WORDS_OF_LANGUAGE
    found = languages_of(
        {"en": [words(ENGLISH) for _ in range(9)], "de": [words(GERMAN) for _ in range(9)]}, vocabulary
    )
    assert (found.share_L > 0.9).all()
    texts = [words(ENGLISH), words(OTHER), words(GERMAN), words(OTHER, OTHER, ENGLISH)]
    words_MK = np.concatenate(texts)
    rows_MK = np.stack([rows_of(words_MK[:, k], check_V) for k in range(WORDS_OF_LANGUAGE)], axis=1)
    text_M = np.repeat(np.arange(4), 40)
    seen_M = found.recognised(rows_MK, words_MK, text_M)
    assert [set(seen_M[text_M == number].tolist()) for number in range(4)] == [
        {True},
        {False},
        {True},
        {False},
    ]


def test_no_places_are_in_no_language() -> None:
    found = languages_of({"en": [words(ENGLISH)]}, [np.zeros(4, np.uint16)] * WORDS_OF_LANGUAGE)
    none = np.empty((0, WORDS_OF_LANGUAGE))
    assert not len(found.recognised(none.astype(np.int64), none.astype(np.uint32), np.empty(0, np.int64)))
