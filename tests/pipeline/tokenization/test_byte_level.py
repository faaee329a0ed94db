import itertools
import json

import numpy as np
import pytest
import tokenizers
from hypothesis import example, given, settings
from hypothesis import strategies as st
from tokenizers import AddedToken, normalizers, pre_tokenizers

from pipeline.tokenization import byte_level
from pipeline.tokenization.byte_level import PROBES, ByteLevelEncoder, is_supported
from pipeline.tokenization.pre_tokenizer import WordPattern
from pipeline.tokenization.tokenizer import Tokenizer


def with_pattern(backend: tokenizers.Tokenizer, pattern: WordPattern) -> tokenizers.Tokenizer:
    """As Llama 3 and Qwen ship it: a regular expression of their own, then bytes."""
    tree = json.loads(backend.to_str())
    split = {"type": "Split", "pattern": {"Regex": pattern.value}, "behavior": "Isolated", "invert": False}
    to_bytes = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": False, "use_regex": False}
    tree["pre_tokenizer"] = {"type": "Sequence", "pretokenizers": [split, to_bytes]}
    tree["model"]["ignore_merges"] = pattern is WordPattern.LLAMA3
    tree["normalizer"] = {"type": "NFC"} if pattern is WordPattern.QWEN else None
    return tokenizers.Tokenizer.from_str(json.dumps(tree))


TEXTS = [*PROBES, "The quick brown fox. It's here, isn't it? We'll see they've gone.\n\n\tdef f(x):\n"] * 9
BACKEND = tokenizers.Tokenizer.from_str(Tokenizer.train(TEXTS, 450).files()["tokenizer.json"])
BACKEND.encode_special_tokens = True
ENCODER = ByteLevelEncoder(BACKEND)
NEWER = {
    pattern: Tokenizer(with_pattern(BACKEND, pattern), {})
    for pattern in (WordPattern.LLAMA3, WordPattern.QWEN)
}

TRICKY = st.sampled_from(
    [*"'sdmtlvreSſ \t\n\r\x0b\x1c\x85\u00a0\u2028\u3000aB1²,.-_!世🙂é\u0301\u0600", "'ll", "  "]
)
TEXT = st.lists(TRICKY | st.characters(exclude_categories=["Cs"]), max_size=40).map("".join)


def assert_same(texts: list[str], encoder: ByteLevelEncoder = ENCODER) -> None:
    ids, counts = encoder.encode(texts)
    expected = [x.ids for x in encoder._backend.encode_batch_fast(texts, add_special_tokens=False)]
    assert ids.dtype == np.int32 and counts.tolist() == [len(x) for x in expected]
    assert ids.tolist() == list(itertools.chain.from_iterable(expected))


@settings(max_examples=400, deadline=None)
@given(st.lists(TEXT, max_size=4))
@example([])
@example(["", "", " ", "'", "'s", "'l", "'ll"])
@example(["a  ", " b", "c\n", "\n's"])
@example(["<eos><pad>", "x" * 100, " " + "世" * 40])
def test_ids_are_those_of_the_tokenizer(texts: list[str]) -> None:
    assert_same(texts)


def assert_same_ids(tokenizer: Tokenizer, texts: list[str]) -> None:
    assert tokenizer.engine == "byte-level words"
    expected = [x.ids for x in tokenizer._backend.encode_batch_fast(texts, add_special_tokens=False)]
    assert [tokens.ids.tolist() for tokens in tokenizer.encode(texts)] == expected


@pytest.mark.parametrize("pattern", NEWER)
@settings(max_examples=600, deadline=None)
@given(texts=st.lists(TEXT, max_size=4))
@example(texts=["\n", "a\n\n b", "!\r\n \nx", "!a !a \t!a !!a", "12345 1234567", "'ſa 'Sa '’s", "e\u0301 a"])
@example(texts=["  \n\t x\u2028\n\u3000y", "'LL we'Ve I'M 'Rex", "½²³٣٤٥٦7", "世1!\n!世"])
def test_ids_of_the_newer_patterns(pattern: WordPattern, texts: list[str]) -> None:
    assert_same_ids(NEWER[pattern], texts)


@pytest.mark.parametrize("pattern", NEWER)
def test_characters_of_every_kind_in_the_newer_patterns(pattern: WordPattern) -> None:
    kept = [chr(code) for code in [*range(0x3100), *range(0xA000, 0xB000), *range(0xF900, 0x10500)]]
    assert_same_ids(NEWER[pattern], [f"a{x} 1{x}!{x} {x}\n{x}'s {x}a{x}\n{x}1" for x in kept[::2]])


def test_an_added_token_in_a_text_is_found() -> None:
    added = tokenizers.Tokenizer.from_str(BACKEND.to_str())
    added.add_tokens([AddedToken("<tool>", special=False)])
    tokenizer = Tokenizer(added, {})
    assert_same_ids(tokenizer, ["a<tool>b", "no tool here", "<tool>"])
    assert tokenizer.encode(["a<tool>b"])[0].ids[1] == tokenizer.vocab_size - 1


def test_characters_of_every_kind() -> None:
    codes = [
        *range(0x3100),
        *range(0xA000, 0xB000),
        *range(0xF900, 0x10500),
        *range(0x1F000, 0x1FB00),
        0x10FFFF,
    ]
    for size in (1, 7):
        kept = [chr(code) for code in codes if not 0xD800 <= code < 0xE000]
        assert_same(["".join(kept[i : i + size]) for i in range(0, len(kept), size)])
        assert_same([f"a{x} 1{x}!{x} {x}\n{x}'s" for x in kept[:: 3 * size]])


def test_many_words_make_the_table_grow_and_forget(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(byte_level, "_MAX_WORDS", 40_000)
    encoder = ByteLevelEncoder(BACKEND)
    for start in range(0, 60_000, 15_000):
        assert_same([" ".join(f"w{i:x}q {i}" for i in range(start, start + 15_000))], encoder)
    assert_same(TEXTS, encoder)


@settings(deadline=None)
@given(st.lists(TEXT, max_size=4), st.integers(1, 9))
def test_a_long_text_is_cut_where_it_does_not_matter(texts: list[str], size: int) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(byte_level, "_CHUNK_CHARACTERS", size)
        assert_same(texts)


def test_words_whose_hashes_collide_stay_apart(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(byte_level, "_MULTIPLIERS", np.array([1 << 60, 1 << 62], np.uint64))
    assert_same(["one two three four five six seven eight nine ten eleven " * 3], ByteLevelEncoder(BACKEND))


def test_what_it_does_not_cover_is_left_to_the_tokenizer() -> None:
    def changed(**parts: object) -> tokenizers.Tokenizer:
        backend = tokenizers.Tokenizer.from_str(BACKEND.to_str())
        for name, part in parts.items():
            setattr(backend, name, part)
        return backend

    def covered(backend: tokenizers.Tokenizer) -> bool:
        return is_supported(json.loads(backend.to_str()))

    assert covered(BACKEND) and covered(changed(normalizer=normalizers.NFC()))
    assert not covered(changed(normalizer=normalizers.NFKC()))
    assert not covered(changed(pre_tokenizer=pre_tokenizers.ByteLevel(add_prefix_space=True)))
    assert not covered(changed(pre_tokenizer=pre_tokenizers.ByteLevel(False, use_regex=False)))
    assert not covered(changed(pre_tokenizer=pre_tokenizers.Whitespace()))
    split = pre_tokenizers.Split(tokenizers.Regex(r"\p{L}+"), "isolated")
    others = pre_tokenizers.Sequence([split, pre_tokenizers.ByteLevel(False, use_regex=False)])
    assert not covered(changed(pre_tokenizer=others))
    assert Tokenizer(changed(pre_tokenizer=others), {}).engine == "tokenizers"
    assert Tokenizer(changed(), {}).engine == "byte-level words"
