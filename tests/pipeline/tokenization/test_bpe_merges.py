import numpy as np
import tokenizers
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import decoders, models, pre_tokenizers

from pipeline.tokenization.bpe_merges import Merges


def backend_of(merges: list[tuple[str, str]]) -> tokenizers.Tokenizer:
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocab = {token: i for i, token in enumerate(dict.fromkeys([*alphabet, *map("".join, merges)]))}
    backend = tokenizers.Tokenizer(models.BPE(vocab, merges))
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    backend.decoder = decoders.ByteLevel()
    return backend


@st.composite
def merge_lists(draw: st.DrawFn) -> list[tuple[str, str]]:
    """Merges in any order that a tokenizer takes: also such as training would not make."""
    tokens, merges = list("abc"), []
    for _ in range(draw(st.integers(0, 12))):
        pair = draw(st.sampled_from(tokens)), draw(st.sampled_from(tokens))
        if pair not in merges:
            merges.append(pair)
            tokens.append("".join(pair))
    return draw(st.permutations(merges)) if draw(st.booleans()) else merges


@settings(deadline=None, max_examples=200)
@given(merge_lists(), st.lists(st.text("abc\u00e9 ", min_size=1, max_size=30), min_size=1, max_size=8))
def test_words_are_merged_as_the_tokenizer_does(merges: list[tuple[str, str]], words: list[str]) -> None:
    backend = backend_of(merges)
    model = {"vocab": backend.get_vocab(), "merges": [list(pair) for pair in merges]}
    ids, counts = Merges(model).apply([word.encode() for word in words])
    expected = [encoding.ids for encoding in backend.encode_batch_fast(words)]
    assert [part.tolist() for part in np.split(ids, np.cumsum(counts)[:-1])] == expected


def test_merges_may_be_written_as_one_string() -> None:
    vocab = backend_of([("a", "b")]).get_vocab()
    ids, _ = Merges({"vocab": vocab, "merges": ["a b"]}).apply([b"abab"])
    assert ids.tolist() == [vocab["ab"]] * 2
