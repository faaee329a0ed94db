import dataclasses

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import segmenters
from pipeline.tokenization.sentences import encode_documents, sentence_lengths
from pipeline.tokenization.tokenizer import Tokenizer
from segmenters import Segmenter, SegmenterError

TOKENIZER = Tokenizer.train(["One. Two, three; four: five — six.\n", "世界。你好！ 🙂 été"] * 9, 300)
UNICODE = st.text(st.characters(exclude_categories=["Cs"]) | st.sampled_from(" .,;\n。世🙂"), max_size=80)


@dataclasses.dataclass(frozen=True)
class EveryNth(Segmenter):
    """A sentence every `n` characters: also within words and tokens."""

    n: int = 3
    name = "every_nth_v1"

    def split(self, texts: list[str]) -> list[np.ndarray]:
        return [np.append(np.arange(self.n, len(text), self.n), [len(text)] * bool(text)) for text in texts]


@settings(deadline=None)
@given(st.lists(UNICODE, max_size=4), st.integers(1, 9), st.integers(1, 12))
def test_joined_sentences_are_the_documents_tokens(texts: list[str], n: int, limit: int) -> None:
    encoded = encode_documents(texts, EveryNth(n), TOKENIZER, limit)
    for text, (ids, lengths), tokens in zip(texts, encoded, TOKENIZER.encode(texts), strict=True):
        assert np.array_equal(ids, tokens.ids)
        assert lengths.dtype == np.int32 and lengths.sum() == len(ids)
        assert np.all(lengths > 0) and np.all(lengths <= limit)
        alone = sentence_lengths(text, EveryNth(n).split([text])[0], tokens.ends, limit)
        assert np.array_equal(alone, lengths)


@settings(deadline=None)
@given(UNICODE, st.integers(1, 9))
def test_no_sentence_starts_inside_a_character(text: str, n: int) -> None:
    [(ids, lengths)] = encode_documents([text], EveryNth(n), TOKENIZER, 1000)
    sentences = np.split(ids, np.cumsum(lengths)[:-1]) if len(lengths) else []
    assert "".join(TOKENIZER.decode(sentence) for sentence in sentences) == text


@pytest.mark.parametrize(
    ("ends", "token_ends", "expected"),
    [
        ([4, 9], [2, 4, 6, 9], [2, 2]),  # on the edge
        ([5, 9], [2, 4, 6, 9], [2, 2]),  # two as near: the earlier
        ([8, 9], [2, 4, 6, 9], [4]),  # the last edge is nearer: the second sentence is left without tokens
        ([1, 9], [3, 9], [2]),  # nearer to the start than to any edge: the first has no token
        ([2, 9], [3, 9], [1, 1]),
        ([4, 9], [2, 4, 4, 9], [3, 1]),  # of tokens that end at one character, the last ends it
        ([9], [], []),
    ],
)
def test_cut_at_the_nearest_token_edge(ends: list[int], token_ends: list[int], expected: list[int]) -> None:
    lengths = sentence_lengths("x" * 9, np.array(ends), np.array(token_ends, np.int64), 64)
    assert lengths.tolist() == expected


@pytest.mark.parametrize(
    ("text", "limit", "expected"),
    [
        ("aa bb\ncc dd ee", 10, [6, 8]),  # a line break before anything else
        ("aa b, cc dd e", 8, [5, 8]),  # then punctuation
        ("aaaaa bb cc ddd", 8, [8, 7]),  # then the last white space: cut before the blank
        ("aaaaaaaaaaaaaaaaaaaaa", 8, [8, 8, 5]),  # else anywhere
        ("a\nbbbbbbbbbbbbbbbbbbb", 8, [8, 8, 5]),  # a line break that would leave less than half is too early
        ("aaaaa", 1, [1] * 5),
    ],
)
def test_a_long_sentence_is_cut_at_its_best_position(text: str, limit: int, expected: list[int]) -> None:
    ends, token_ends = np.array([len(text)]), np.arange(1, len(text) + 1)
    assert sentence_lengths(text, ends, token_ends, limit).tolist() == expected


def test_a_long_sentence_is_not_cut_inside_a_character_unless_it_must() -> None:
    token_ends = np.array([1, 1, 1, 2, 2, 2])  # two characters of three tokens
    assert sentence_lengths("世界", np.array([2]), token_ends, 4).tolist() == [3, 3]
    assert sentence_lengths("世界", np.array([2]), token_ends, 2).tolist() == [2, 1, 2, 1]


def test_a_segmenter_that_breaks_its_contract_is_named() -> None:
    class Short(EveryNth):
        def split(self, texts: list[str]) -> list[np.ndarray]:
            return [np.array([1]) for _ in texts]

    with pytest.raises(SegmenterError, match="broke its contract"):
        encode_documents(["some text"], Short(), TOKENIZER, 8)


@pytest.mark.parametrize("name", list(segmenters.BUILT_IN))
@settings(deadline=None)  # the first call of a segmenter loads it
@given(texts=st.lists(UNICODE, max_size=3))
def test_every_segmenter_loses_no_token(name: str, texts: list[str]) -> None:
    try:
        encoded = encode_documents(texts, segmenters.load(name), TOKENIZER, 6)
    except SegmenterError as error:
        if "needs the package" not in str(error):
            raise
        pytest.skip(str(error))
    assert [TOKENIZER.decode(ids) for ids, _ in encoded] == texts
    assert all(lengths.sum() == len(ids) for ids, lengths in encoded)
