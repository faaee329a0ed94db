"""Ends of tokens in characters: from the byte lengths of byte-level tokens, or from the offsets of `tokenizers`.

The parts of the tokenizer decide which of the two is used. Byte lengths are wrong for a text that the tokenizer
normalizes or drops a part of, even if the sums are equal.
"""

import itertools
import json
import re
import unicodedata
from collections.abc import Iterator
from typing import Any

import numpy as np
import tokenizers
from numpy.typing import NDArray
from tokenizers import pre_tokenizers

_TOKEN_CHANGES = ("continuing_subword_prefix", "end_of_word_suffix", "byte_fallback")
_BYTE = re.compile(r"<0x[0-9A-F]{2}>")
"""A token of one byte, for characters outside the vocabulary (`byte_fallback`)."""
_KEEPING = ("Isolated", "MergedWithPrevious", "MergedWithNext", "Contiguous")
"""Behaviours of a `Split` pre-tokenizer that drop nothing."""


def keeps_bytes(tree: dict[str, Any]) -> bool:
    """Whether the tokens of an `Untouched` text are its bytes: `tokenizer.json` is a byte-level BPE."""
    model = tree["model"]
    steps = list(_steps(tree["pre_tokenizer"], "pretokenizers"))
    return (
        model["type"] == "BPE"
        and not any(model.get(key) for key in _TOKEN_CHANGES)
        and all(step == {"type": "NFC"} for step in _steps(tree["normalizer"], "normalizers"))
        and sum(step["type"] == "ByteLevel" for step in steps) == 1
        and all(map(_keeps_text, steps))
        and model["vocab"].keys() >= set(pre_tokenizers.ByteLevel.alphabet())
    )


def _steps(tree: dict[str, Any] | None, key: str) -> Iterator[dict[str, Any]]:
    """The parts of a normalizer or pre-tokenizer, in order."""
    if tree is not None and tree["type"] == "Sequence":
        for part in tree[key]:
            yield from _steps(part, key)
    elif tree is not None:
        yield tree


def _keeps_text(step: dict[str, Any]) -> bool:
    """Whether a part of the pre-tokenizer cuts a text without changing it."""
    if step["type"] == "ByteLevel":
        return not step["add_prefix_space"]
    if step["type"] in ("Split", "Punctuation"):
        return step["behavior"] in _KEEPING
    return step["type"] in ("Digits", "UnicodeScripts")


class Untouched:
    """Recognises texts that the tokenizer does not normalize and that contain no added token."""

    def __init__(self, tree: dict[str, Any]) -> None:
        """`tree`: the content of `tokenizer.json`, one without a normalizer but NFC."""
        self._is_normalized = tree["normalizer"] is not None
        # Special tokens in a text are encoded as ordinary text.
        added = [token["content"] for token in tree["added_tokens"] if not token["special"]]
        forms = dict.fromkeys(
            form for content in added for form in (content, unicodedata.normalize("NFC", content))
        )
        self._added = re.compile("|".join(map(re.escape, forms))) if forms else None

    def __call__(self, text: str) -> bool:
        """Whether `text` is not normalized and contains no added token."""
        if self._added is not None and self._added.search(text):
            return False
        return not self._is_normalized or unicodedata.is_normalized("NFC", text)


def lengths_in_bytes(
    backend: tokenizers.Tokenizer, tree: dict[str, Any], tokens: dict[str, int], added: set[str]
) -> list[int]:
    """UTF-8 bytes that each of `tokens` (a vocabulary) decodes to after another token."""
    steps = _steps(tree["pre_tokenizer"], "pretokenizers")
    if any(step["type"] == "ByteLevel" for step in steps):
        bytes_ = set(pre_tokenizers.ByteLevel.alphabet())
        is_bytes = [token not in added and bytes_.issuperset(token) for token in tokens]
        return [
            len(token) if whole else len(token.encode())
            for token, whole in zip(tokens, is_bytes, strict=True)
        ]
    if backend.decoder is None:
        return [len(token.encode()) for token in tokens]
    # By decoding: `▁` gives a space, the prefix of a continued word nothing.
    before = next((token for token in tokens if token.isascii() and token.isalnum()), next(iter(tokens)))
    first = tokens[before]
    pairs = [[first, index] for index in tokens.values()]
    own = len(backend.decode([first], skip_special_tokens=False).encode())
    decoded = backend.decode_batch(pairs, skip_special_tokens=False)
    return [
        1 if _BYTE.fullmatch(token) and tree["model"].get("byte_fallback") else len(text.encode()) - own
        for token, text in zip(tokens, decoded, strict=True)
    ]


def ends_by_length(texts: list[str], byte_lengths: list[NDArray[np.int64]]) -> list[NDArray[np.int64]]:
    """Token ends of each text, from the byte lengths of its tokens, which sum to the bytes of the text."""
    if not texts:
        return []
    ends = np.cumsum(np.concatenate(byte_lengths))
    starts = itertools.accumulate(map(len, texts[:-1]), initial=0)
    joined = "".join(texts)
    if not joined.isascii():
        utf8 = np.frombuffer(joined.encode(), np.uint8)
        begins = (utf8 & 0xC0) != 0x80
        characters = np.zeros(len(utf8) + 1, np.int64)
        np.cumsum(begins, out=characters[1:])
        whole = np.append(begins, True)[ends]
        ends = np.where(whole, characters[ends], len(joined))
        ends = np.minimum.accumulate(ends[::-1])[::-1]
    parts = np.split(ends, np.cumsum(list(map(len, byte_lengths)))[:-1])
    return [part - start for part, start in zip(parts, starts, strict=True)]


class Aligner:
    """Ids and ends from the offsets of `tokenizers`, for any tokenizer."""

    def __init__(self, tree: dict[str, Any]) -> None:
        # Without the post-processor: it adds no ids here, but a byte-level one trims white space from the offsets.
        self._backend = tokenizers.Tokenizer.from_str(json.dumps({**tree, "post_processor": None}))
        self._backend.encode_special_tokens = True

    def encode(self, texts: list[str]) -> list[tuple[NDArray[np.int32], NDArray[np.int64]]]:
        """Ids and token ends of each text: dropped text belongs to the token after it, or to the last one."""
        result = []
        for text, encoding in zip(
            texts, self._backend.encode_batch(texts, add_special_tokens=False), strict=True
        ):
            ends = np.array(encoding.offsets, np.int64).reshape(-1, 2)[:, 1]
            ends = np.maximum.accumulate(ends)
            ends[len(ends) - 1 :] = len(text)
            result.append((np.array(encoding.ids, np.int32), ends))
        return result
