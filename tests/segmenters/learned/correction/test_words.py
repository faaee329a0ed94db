import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from segmenters.characters import Kind
from segmenters.learned.correction.words import (
    LONGEST,
    WordIndex,
    Words,
    _character_hashes,
    checks,
    mixed,
    rows_of,
)
from segmenters.rules.kinds import classified


def of_text(text: str) -> Words:
    code_N, kind_N = classified(f"\n{text}\n")
    return WordIndex(code_N, kind_N).words_from(np.array([1]))


def test_a_word_has_the_same_hash_from_both_sides_and_in_both_cases() -> None:
    code_N, kind_N = classified("\nalso z.B. Straße, U.S. now.\n")
    text = "\nalso z.B. Straße, U.S. now.\n"
    for word in ("also", "z.B", "Straße", "U.S", "now"):
        at = text.index(word)
        index = WordIndex(code_N, kind_N)
        first = index.words_from(np.array([at]))
        last = index.words_before(np.array([at + len(word) - 1]))
        assert first.hash_M == last.hash_M and last.start_M == at and first.length_M == len(word)
        assert first.inner_M == ("." in word)
        upper = of_text(word.upper())
        assert upper.hash_M == first.hash_M or "ß" in word


def test_places_without_a_word_have_hash_0_and_unknown_words_row_0() -> None:
    code_N, kind_N = classified("\n(a)\n")
    found = WordIndex(code_N, kind_N).words_from(np.array([1, 2]))
    assert found.hash_M[0] == 0 and found.hash_M[1] != 0
    check_V = np.zeros(16, np.uint16)
    assert rows_of(found.hash_M, check_V).tolist() == [0, 0]
    bucket = int(found.hash_M[1] & np.uint32(15))
    check_V[bucket] = checks(found.hash_M[1:])[0]
    assert rows_of(found.hash_M, check_V)[1] == bucket + 1


@given(st.text("aBé1.'- 中\u0301\U0001f600ก\n", max_size=40))
def test_hashes_and_flags_are_those_of_the_characters(text: str) -> None:
    """Character by character, as the weights were trained."""
    code_N, kind_N = classified(f"\n{text}\n")
    at_M = np.arange(1, len(text) + 1)
    found = WordIndex(code_N, kind_N).words_from(at_M)
    letter_N = (kind_N >= Kind.LOWER) & (kind_N <= Kind.MARK)
    stop_N = code_N == ord(".")
    word_N = letter_N.copy()
    word_N[1:-1] |= stop_N[1:-1] & letter_N[:-2] & letter_N[2:]
    for number, at in enumerate(at_M.tolist()):
        end = at
        while word_N[end] and end < at + LONGEST:
            end += 1
        kinds, length = kind_N[at:end].tolist(), end - at
        codes = [min(code, 0x10000) for code in code_N[at:end].tolist()]
        value = sum(
            int(_character_hashes()[code]) * pow(0x9E3779B1, offset) for offset, code in enumerate(codes)
        )
        stops = stop_N[at:end].sum()
        if kind_N[at] == Kind.IDEOGRAPH:
            value, length = int(_character_hashes()[code_N[at]]), 1
        assert found.hash_M[number] == mixed(np.array([value % 2**32], np.uint32))[0]
        assert found.length_M[number] == length and found.inner_M[number] == (stops > 0)
        assert found.caps_M[number] == (kinds.count(Kind.UPPER) > 1 and Kind.LOWER not in kinds)
