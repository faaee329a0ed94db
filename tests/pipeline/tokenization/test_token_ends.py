"""Token ends of every kind of tokenizer are those that `tokenizers` aligns; what is lost is noticed."""

import json

import numpy as np
import pytest
import tokenizers
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import AddedToken, decoders, models, pre_tokenizers, processors
from tokenizers import normalizers as norms

from pipeline.tokenization.byte_level import is_supported
from pipeline.tokenization.sentences import sentence_lengths
from pipeline.tokenization.token_ends import keeps_bytes
from pipeline.tokenization.tokenizer import Tokenizer

LETTERS = "abcdefghij AÉéßñ.,!?123世界語🙂\n\u0301ﬁ"
WORDS = ["go", "a", "?", "run", "and", "the", "An"]
ALPHABET = sorted(pre_tokenizers.ByteLevel.alphabet())
BYTES = [f"<0x{byte:02X}>" for byte in range(256)]
UNKNOWN = "[UNK]"


def vocabulary(*tokens):
    return {token: index for index, token in enumerate(dict.fromkeys(tokens))}


def with_parts(model, normalizer=None, pre_tokenizer=None, decoder=None, post_processor=None, added=()):
    backend = tokenizers.Tokenizer(model)
    for name, part in (
        ("normalizer", normalizer),
        ("pre_tokenizer", pre_tokenizer),
        ("decoder", decoder),
        ("post_processor", post_processor),
    ):
        if part is not None:
            setattr(backend, name, part)
    backend.add_tokens(list(added))
    return backend


def word_piece(**options):
    tokens = vocabulary(UNKNOWN, "[CLS]", "[SEP]", "go", "a", "?", "run", "##ning", "##a", "e", "##é")
    return with_parts(
        models.WordPiece(tokens, unk_token=UNKNOWN),
        **{"pre_tokenizer": pre_tokenizers.BertPreTokenizer(), "decoder": decoders.WordPiece(), **options},
    )


def byte_level(prefix=False, **options):
    tokens = vocabulary(*ALPHABET, "he", "Ġa", "th")
    merges = [("h", "e"), ("Ġ", "a"), ("t", "h")]
    return with_parts(
        models.BPE(tokens, merges),
        **{
            "pre_tokenizer": pre_tokenizers.ByteLevel(add_prefix_space=prefix),
            "decoder": decoders.ByteLevel(),
            **options,
        },
    )


def byte_fallback():
    tokens = vocabulary("<unk>", "▁", *"abé", "▁a", "ab", *BYTES)
    return with_parts(
        models.BPE(tokens, [("▁", "a"), ("a", "b")], unk_token="<unk>", byte_fallback=True, fuse_unk=True),  # noqa: S106
        norms.Sequence([norms.Prepend("▁"), norms.Replace(" ", "▁")]),
        None,
        decoders.Sequence(
            [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
        ),
    )


def unigram(fallback, normalizer=None, scheme="always"):
    pieces = ["▁", "▁a", "ab", "▁the", *"abcdeé.,", "fi", *(BYTES if fallback else ())]
    return with_parts(
        models.Unigram([("<unk>", 0.0), *((piece, -2.0) for piece in pieces)], 0, fallback),
        normalizer,
        pre_tokenizers.Metaspace(prepend_scheme=scheme),
        decoders.Sequence([decoders.ByteFallback(), decoders.Metaspace(prepend_scheme=scheme)]),
    )


STRIPPED = [AddedToken("<x>", lstrip=True, rstrip=True), AddedToken("the", single_word=True)]
SEQUENCE = pre_tokenizers.Sequence(
    [
        pre_tokenizers.Split(tokenizers.Regex(r"\d"), "isolated"),
        pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
    ]
)
DROPPING = pre_tokenizers.Sequence(
    [pre_tokenizers.Split(" ", "removed"), pre_tokenizers.ByteLevel(add_prefix_space=False)]
)
WORD_LEVEL = models.WordLevel(vocabulary(UNKNOWN, *WORDS, "世"), unk_token=UNKNOWN)
CHARACTERS = models.BPE(vocabulary(UNKNOWN, *LETTERS), [], unk_token=UNKNOWN)
TOKENIZERS = {
    "byte-level": byte_level(),
    "byte-level, NFC": byte_level(normalizer=norms.NFC()),
    "byte-level, NFKC": byte_level(normalizer=norms.NFKC()),
    "byte-level, lower case": byte_level(normalizer=norms.Lowercase()),
    "byte-level, prefix": byte_level(prefix=True, post_processor=processors.ByteLevel(trim_offsets=True)),
    "byte-level, stripping": byte_level(added=STRIPPED),
    "byte-level, cut at digits": byte_level(pre_tokenizer=SEQUENCE),
    "byte-level, blanks dropped": byte_level(pre_tokenizer=DROPPING),
    "byte fallback": byte_fallback(),
    "word pieces": word_piece(),
    "word pieces, BERT": word_piece(normalizer=norms.BertNormalizer(lowercase=True)),
    "word pieces, accents stripped": word_piece(normalizer=norms.Sequence([norms.NFD(), norms.StripAccents()])),
    "unigram": unigram(False),
    "unigram, NFKC": unigram(False, norms.NFKC()),
    "unigram, byte fallback": unigram(True, scheme="never"),
    "characters": with_parts(CHARACTERS),
    "characters, stripping": with_parts(CHARACTERS, norms.Strip(), added=STRIPPED),
    "words": with_parts(WORD_LEVEL, norms.NFKC(), pre_tokenizers.Whitespace()),
    "words, added": with_parts(WORD_LEVEL, None, pre_tokenizers.WhitespaceSplit(), added=STRIPPED),
}  # fmt: skip
KEEPING = ("byte-level", "byte-level, NFC", "byte-level, stripping", "byte-level, cut at digits")
PIECES = st.sampled_from(
    [*LETTERS, *WORDS, " ", "  ", "running", "<x>", " <x> ", "the", "½", "e\u0301", "\x00"]
)
TEXTS = st.one_of(
    st.lists(PIECES, max_size=25).map("".join), st.text(st.characters(exclude_categories=["Cs"]), max_size=30)
)


@pytest.mark.parametrize("name", TOKENIZERS)
def test_which_way_is_decided_from_the_parts(name):
    tree = json.loads(TOKENIZERS[name].to_str())
    assert keeps_bytes(tree) == (name in KEEPING)
    assert not is_supported(tree) or keeps_bytes(tree)


@pytest.mark.parametrize("name", TOKENIZERS)
@settings(deadline=None, max_examples=60)
@given(texts=st.lists(TEXTS, max_size=4), stride=st.integers(1, 5))
def test_ends_are_those_of_tokenizers(name, texts, stride):
    backend = TOKENIZERS[name]
    tokenizer = Tokenizer(tokenizers.Tokenizer.from_str(backend.to_str()), {"eos_token": "a"})
    tree = json.loads(backend.to_str()) | {"post_processor": None}
    plain = tokenizers.Tokenizer.from_str(json.dumps(tree))
    for text, tokens in zip(texts, tokenizer.encode(texts), strict=True):
        theirs = plain.encode(text, add_special_tokens=False)
        assert tokens.ids.tolist() == theirs.ids
        expected = np.maximum.accumulate([end for _, end in theirs.offsets] or [0])[: len(theirs.ids)]
        assert tokens.ends[:-1].tolist() == expected[:-1].tolist()
        assert tokens.ends[-1:].tolist() == [len(text)] * (len(theirs.ids) > 0)
        if not theirs.ids:
            continue
        # A sentence never ends inside a token, nor inside one of several tokens of a character.
        sentence_ends = np.unique([*range(stride, len(text), stride), len(text)])
        edges = set(np.flatnonzero(np.append(np.diff(tokens.ends) > 0, True)) + 1)
        lengths = sentence_lengths(text, sentence_ends, tokens.ends, 10**6)
        assert lengths.min() > 0 and set(np.cumsum(lengths)) <= edges


def test_lengths_whose_sum_happens_to_fit_are_not_believed():
    tokenizer = Tokenizer(word_piece(), {})
    [tokens] = tokenizer.encode(["go a? running"])
    assert tokens.ends.tolist() == [2, 4, 5, 9, 13]
    assert sentence_lengths("go a? running", np.array([6, 13]), tokens.ends, 64).tolist() == [3, 2]


@pytest.mark.parametrize(
    ("name", "kept", "lost"),
    [
        ("byte-level", ["É <x> \x00 e\u0301"], []),
        ("byte-level, NFC", ["é"], ["e\u0301"]),
        ("byte-level, NFKC", ["é"], ["ﬁ", "½"]),
        ("byte-level, lower case", ["a b"], ["a B"]),
        ("byte-level, prefix", ["a b", " a"], []),
        ("byte-level, stripping", ["a<x>b"], ["a <x> b"]),
        ("byte-level, blanks dropped", ["ab"], ["a b"]),
        ("byte fallback", ["a 世  b", " a"], []),
        ("word pieces", ["go a? running"], ["Go", "go  a", "go\n", "世"]),
        ("word pieces, BERT", ["go"], ["Go", "gó", "go\x00"]),
        ("unigram", ["ab the"], ["xyz"]),
        ("unigram, byte fallback", ["ab 世"], []),
        ("characters", ["abc ÉÉ"], ["xyz"]),
        ("characters, stripping", ["abc"], [" abc "]),
        ("words", ["a"], ["ﬁ", "a the"]),
    ],
)
def test_a_text_that_its_ids_do_not_give_back_is_noticed(name, kept, lost):
    tokenizer = Tokenizer(tokenizers.Tokenizer.from_str(TOKENIZERS[name].to_str()), {})
    texts = [*kept, *lost]
    ids = [tokens.ids for tokens in tokenizer.encode(texts)]
    assert tokenizer.loses(texts, ids) == [False] * len(kept) + [True] * len(lost)


@pytest.mark.parametrize("name", ["byte-level", "byte fallback", "unigram, byte fallback", "word pieces"])
def test_bytes_of_tokens_are_those_of_the_text(name):
    tokenizer = Tokenizer(tokenizers.Tokenizer.from_str(TOKENIZERS[name].to_str()), {})
    text = "go a run" if name == "word pieces" else " ab a 世 é b"
    [tokens] = tokenizer.encode([text])
    missing = {"word pieces": -1, "byte fallback": -1}.get(name, 0)  # the first token has no blank before it
    assert tokenizer.token_bytes[tokens.ids].sum() + missing == len(text.encode())
