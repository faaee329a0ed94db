import json
from pathlib import Path

import numpy as np
import pytest
import tokenizers
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import models, normalizers, pre_tokenizers

from pipeline.errors import ConfigError
from pipeline.tokenization.tokenizer import Tokenizer

TEXTS = [
    "The quick brown fox. It jumps, doesn't it?\n",
    "Ünïcödé, 世界。你好！\n",
    "a <eos> b\tc 3.14 🙂",
] * 20
TOKENIZER = Tokenizer.train(TEXTS, 400)
UNICODE = st.text(st.characters(exclude_categories=["Cs"]), max_size=60)


@settings(deadline=None)
@given(st.lists(UNICODE, max_size=5))
def test_ids_decode_to_the_text_and_ends_are_edges_of_characters(texts: list[str]) -> None:
    for text, tokens in zip(texts, TOKENIZER.encode(texts), strict=True):
        assert tokens.ids.dtype == np.int32 and tokens.ends.dtype == np.int64
        assert TOKENIZER.decode(tokens.ids) == text
        assert np.all(np.diff(tokens.ends) >= 0)
        assert list(tokens.ends[-1:]) == ([len(text)] if text else [])
        # The last token of those with one end is where that character ends: all before it is decoded.
        last = np.append(tokens.ends[1:] != tokens.ends[:-1], True)[: len(tokens.ends)]
        for edge in np.flatnonzero(last):
            assert TOKENIZER.decode(tokens.ids[: edge + 1]) == text[: tokens.ends[edge]]


def test_special_tokens_in_a_text_are_ordinary_text() -> None:
    [tokens] = TOKENIZER.encode(["a<eos><pad>b"])
    assert not {TOKENIZER.eos_id, TOKENIZER.bos_id} & set(tokens.ids.tolist())
    assert TOKENIZER.decode(tokens.ids) == "a<eos><pad>b"


def test_a_tokenizer_that_changes_the_text_gives_ends_in_the_text_as_it_was() -> None:
    backend = tokenizers.Tokenizer(
        models.WordLevel({"[UNK]": 0, "hello": 1, "world": 2, "[EOS]": 3}, unk_token="[UNK]")  # noqa: S106
    )
    backend.normalizer = normalizers.Lowercase()
    backend.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer = Tokenizer(backend, {"eos_token": "[EOS]"})
    mixed = tokenizer.encode(["HELLO  World ", "", "hello", "Öx"])
    assert [tokens.ids.tolist() for tokens in mixed] == [[1, 2], [], [1], [0]]
    assert [tokens.ends.tolist() for tokens in mixed] == [[5, 13], [], [5], [2]]


def test_saved_and_loaded_it_is_the_same_also_for_transformers(tmp_path: Path) -> None:
    from transformers import AutoTokenizer

    TOKENIZER.save(tmp_path)
    loaded = Tokenizer.load(str(tmp_path))
    assert loaded.digest == TOKENIZER.digest and loaded.vocab_size == TOKENIZER.vocab_size
    assert (loaded.bos_id, loaded.eos_id) == (TOKENIZER.bos_id, TOKENIZER.eos_id) == (1, 2)
    theirs = AutoTokenizer.from_pretrained(tmp_path)
    for text in TEXTS[:2]:
        ids = theirs(text, add_special_tokens=False).input_ids
        assert ids == loaded.encode([text])[0].ids.tolist()
    assert theirs.eos_token_id == 2


def test_training_is_deterministic_and_the_digest_is_of_what_ids_depend_on() -> None:
    again = Tokenizer.train(iter(TEXTS), 400)
    assert again.digest == TOKENIZER.digest
    assert Tokenizer.train(TEXTS, 300).digest != TOKENIZER.digest


def test_bos_and_eos_replace_each_other() -> None:
    def with_config(config: dict[str, object]) -> Tokenizer:
        backend = tokenizers.Tokenizer.from_str(json.dumps(json.loads(TOKENIZER.files()["tokenizer.json"])))
        return Tokenizer(backend, config)

    assert with_config({"eos_token": {"content": "<eos>"}}).bos_id == 2
    assert with_config({"bos_token": "<bos>"}).eos_id == 1
    with pytest.raises(ConfigError, match="neither BOS nor EOS"):
        _ = with_config({}).bos_id


def test_a_missing_tokenizer_is_refused_by_name(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="nowhere"):
        Tokenizer.load(str(tmp_path / "nowhere"))
    (tmp_path / "tokenizer.json").write_text("{")
    with pytest.raises(ConfigError, match="cannot be loaded"):
        Tokenizer.load(str(tmp_path))


@pytest.mark.parametrize("highest", [2**22, 2**31 - 1])
def test_a_tokenizer_whose_ids_would_fill_the_memory_is_refused(tmp_path: Path, highest: int) -> None:
    Tokenizer.train(["one two"], 280).save(tmp_path)
    file = tmp_path / "tokenizer.json"
    tree = json.loads(file.read_text())
    tree["model"]["vocab"]["G"] = highest
    file.write_text(json.dumps(tree))
    with pytest.raises(ConfigError, match=f"a token of id {highest}"):
        Tokenizer.load(str(tmp_path))


def test_bos_that_is_no_text_is_refused(tmp_path: Path) -> None:
    Tokenizer.train(["a b"], 300).save(tmp_path)
    file = tmp_path / "tokenizer_config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | {"bos_token": "\ud800"}))
    with pytest.raises(ConfigError, match=r"bos_token .* is no text"):
        Tokenizer.load(str(tmp_path))


def test_a_merge_into_a_token_that_the_vocabulary_lacks_gives_one_of_our_errors_or_the_ids_of_tokenizers(
    tmp_path: Path,
) -> None:
    Tokenizer.train(["see the bees", "the trees see"] * 9, 300).save(tmp_path)
    file = tmp_path / "tokenizer.json"
    tree = json.loads(file.read_text())
    left, right = tree["model"]["merges"][0]
    del tree["model"]["vocab"][left + right]
    file.write_text(json.dumps(tree))
    with pytest.raises(ConfigError):
        Tokenizer.load(str(tmp_path)).encode(["see the bees"])
