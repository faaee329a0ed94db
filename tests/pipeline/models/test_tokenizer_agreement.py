"""A model of another tokenizer is found out by what its tokenizer does, however its files are written."""

import json
from types import SimpleNamespace

import pytest
import tokenizers
from tokenizers import normalizers
from transformers import AutoTokenizer

from pipeline.errors import ModelError, ShardError
from pipeline.models.tokenizer_agreement import (
    check_mixed,
    check_model_tokenizer,
    check_own_tokenizer,
    difference,
    tokenizer_beside,
)
from pipeline.tokenization.tokenizer import Tokenizer

TEXTS = ["The quick brown fox. It jumps, doesn't it?\n", "Ünïcödé, 世界。你好！\n", "a b\tc 3.14 🙂"] * 20
TOKENIZER = Tokenizer.train(TEXTS, 320)


def changed(change, config=None):
    """The tokenizer with its tree changed by `change`."""
    tree = json.loads(TOKENIZER.files()["tokenizer.json"])
    change(tree)
    files = TOKENIZER.files()
    own = json.loads(files["tokenizer_config.json"]) if config is None else config
    return Tokenizer(tokenizers.Tokenizer.from_str(json.dumps(tree)), own)


def swap(first, second):
    def change(tree):
        vocab = tree["model"]["vocab"]
        a, b = sorted(vocab, key=vocab.get)[first], sorted(vocab, key=vocab.get)[second]
        vocab[a], vocab[b] = vocab[b], vocab[a]

    return change


def reverse_merges(tree):
    tree["model"]["merges"] = [*reversed(tree["model"]["merges"])]


def fewer_merges(tree):
    del tree["model"]["merges"][len(tree["model"]["merges"]) // 2 :]


def prefix_space(tree):
    tree["pre_tokenizer"]["add_prefix_space"] = True


def normalizes(tree):
    tree["normalizer"] = json.loads(normalizers.NFKC().__getstate__())


def one_token_more(tree):
    token = {"id": 320, "content": "<|user|>", "special": True}
    tree["added_tokens"].append(
        {**token, "single_word": False, "lstrip": False, "rstrip": False, "normalized": False}
    )


@pytest.mark.parametrize(
    "change",
    [
        *(swap(100, 200), swap(10, 11), reverse_merges, fewer_merges),
        *(prefix_space, normalizes, one_token_more),
    ],
)
def test_any_other_behaviour_is_a_difference(change):
    other = changed(change)
    assert difference(other, TOKENIZER) is not None
    assert difference(TOKENIZER, other) is not None


def test_another_bos_or_eos_is_a_difference_but_none_is_not():
    def with_bos_eos(bos=None, eos=None):
        return changed(lambda tree: None, {"bos_token": bos, "eos_token": eos})

    assert "BOS" in str(difference(with_bos_eos("<pad>", "<eos>"), TOKENIZER))
    assert "EOS" in str(difference(with_bos_eos(None, "<pad>"), TOKENIZER))
    assert difference(with_bos_eos(None, "<eos>"), TOKENIZER) is None
    assert difference(with_bos_eos(), TOKENIZER) is None


def test_files_that_differ_and_do_the_same_are_no_difference(tmp_path):
    TOKENIZER.save(tmp_path / "ours")
    AutoTokenizer.from_pretrained(tmp_path / "ours").save_pretrained(tmp_path / "theirs")
    theirs = Tokenizer.load(str(tmp_path / "theirs"))
    assert difference(theirs, TOKENIZER) is None and difference(TOKENIZER, theirs) is None


def fake_shards(tokenizer, folder="shards"):
    bos_eos = (tokenizer.bos_id, tokenizer.eos_id)
    manifest = SimpleNamespace(tokenizer_digest=tokenizer.digest, bos_eos=bos_eos)
    return SimpleNamespace(folder=folder, manifest=manifest, tokenizer=lambda: tokenizer)


def test_a_folder_without_a_tokenizer_is_said_and_a_damaged_one_refused(tmp_path, caplog):
    config = SimpleNamespace(bos_token_id=1)
    (tmp_path / "config.json").write_text("{}")
    for _ in range(2):
        check_model_tokenizer(str(tmp_path), config, fake_shards(TOKENIZER))
    assert caplog.text.count("not compared: there is no tokenizer in its folder") == 1
    (tmp_path / "tokenizer.json").write_text("{")
    with pytest.raises(ModelError, match=r"tokenizer of the model in .* is damaged"):
        tokenizer_beside(str(tmp_path))


def test_a_digest_of_ours_is_enough_where_it_fits_and_behaviour_decides_where_it_does_not(tmp_path):
    bos_eos = [TOKENIZER.bos_id, TOKENIZER.eos_id]
    nowhere = str(tmp_path / "nowhere")
    config = SimpleNamespace(tokenizer_digest=TOKENIZER.digest, tokenizer_bos_eos=bos_eos)
    check_model_tokenizer(nowhere, config, fake_shards(TOKENIZER))  # nothing is read
    other = changed(swap(100, 200))
    with pytest.raises(ModelError, match=r"was trained with tokenizer .* tokenizer\.path="):
        check_model_tokenizer(nowhere, config, fake_shards(other))
    TOKENIZER.save(tmp_path)
    with pytest.raises(ModelError, match=r"other ids.*prepare with tokenizer\.path="):
        check_model_tokenizer(str(tmp_path), config, fake_shards(other))
    # Another way to write the same: another digest, and no error.
    config.tokenizer_digest = "0" * 64
    check_model_tokenizer(str(tmp_path), config, fake_shards(TOKENIZER))
    other = changed(lambda tree: None, {"bos_token": "<pad>", "eos_token": "<eos>"})
    config.tokenizer_digest = other.digest
    with pytest.raises(ModelError, match="its BOS has id 1, there 0"):
        check_model_tokenizer(str(tmp_path), config, fake_shards(other))


def test_shards_of_two_tokenizers_are_not_mixed():
    check_mixed([fake_shards(TOKENIZER), fake_shards(TOKENIZER)])
    for other in (changed(swap(100, 200)), changed(lambda tree: None, {"bos_token": "<pad>"})):
        with pytest.raises(ShardError, match=r"'b' and 'shards' .* different tokenizers"):
            check_mixed([fake_shards(TOKENIZER), fake_shards(other, "b")])


def test_a_tokenizer_that_was_exchanged_beside_its_model_is_refused():
    config = SimpleNamespace(
        tokenizer_digest=TOKENIZER.digest, bos_token_id=TOKENIZER.bos_id, eos_token_id=TOKENIZER.eos_id
    )
    check_own_tokenizer("model", config, TOKENIZER)
    for other in (changed(swap(100, 200)), changed(lambda tree: None, {"bos_token": "<pad>"})):
        with pytest.raises(ModelError, match="not the one that the model was trained with"):
            check_own_tokenizer("model", config, other)
