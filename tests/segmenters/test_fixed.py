from pathlib import Path

import pytest
from tokenizers import Tokenizer, models, pre_tokenizers

from segmenters import SegmenterError, load
from segmenters.fixed import Fixed


def test_cuts_after_every_n_words_and_punctuation_marks() -> None:
    text = "  One two, three. Four"
    ends = Fixed(num_tokens=3).split([text])[0]
    assert [text[a:b] for a, b in zip([0, *ends], ends, strict=False)] == ["  One two, ", "three. Four"]


def test_counts_the_tokens_of_a_tokenizer(tmp_path: Path) -> None:
    tokenizer = Tokenizer(models.WordLevel({"a": 0, "b": 1, "b,": 2}))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    tokenizer.save(str(tmp_path / "tokenizer.json"))
    segmenter = Fixed(num_tokens=2, tokenizer=str(tmp_path))
    assert segmenter.split(["a b, a b a"])[0].tolist() == [4, 8, 10]


def test_bad_options_are_refused(tmp_path: Path) -> None:
    with pytest.raises(SegmenterError, match="at least 1"):
        load("fixed_v1", num_tokens=0)
    with pytest.raises(SegmenterError, match="cannot read the tokenizer"):
        load("fixed_v1", tokenizer=str(tmp_path))
