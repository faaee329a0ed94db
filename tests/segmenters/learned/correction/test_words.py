import numpy as np

from segmenters.learned.correction.words import Words, checks, in_words, rows_of, words_before, words_from
from segmenters.rules.kinds import classified


def of_text(text: str) -> Words:
    code_N, kind_N = classified(f"\n{text}\n")
    return words_from(code_N, kind_N, in_words(code_N, kind_N), np.array([1]))


def test_a_word_has_the_same_hash_from_both_sides_and_in_both_cases() -> None:
    code_N, kind_N = classified("\nalso z.B. Straße, U.S. now.\n")
    text = "\nalso z.B. Straße, U.S. now.\n"
    for word in ("also", "z.B", "Straße", "U.S", "now"):
        at = text.index(word)
        word_N = in_words(code_N, kind_N)
        first = words_from(code_N, kind_N, word_N, np.array([at]))
        last = words_before(code_N, kind_N, word_N, np.array([at + len(word) - 1]))
        assert first.hash_M == last.hash_M and last.start_M == at and first.length_M == len(word)
        assert first.inner_M == ("." in word)
        upper = of_text(word.upper())
        assert upper.hash_M == first.hash_M or "ß" in word


def test_places_without_a_word_have_hash_0_and_unknown_words_row_0() -> None:
    code_N, kind_N = classified("\n(a)\n")
    found = words_from(code_N, kind_N, in_words(code_N, kind_N), np.array([1, 2]))
    assert found.hash_M[0] == 0 and found.hash_M[1] != 0
    check_V = np.zeros(16, np.uint16)
    assert rows_of(found.hash_M, check_V).tolist() == [0, 0]
    bucket = int(found.hash_M[1] & np.uint32(15))
    check_V[bucket] = checks(found.hash_M[1:])[0]
    assert rows_of(found.hash_M, check_V)[1] == bucket + 1
