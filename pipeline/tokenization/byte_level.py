"""Token ids of a byte-level BPE, several times faster than `tokenizers`, with the same ids.

A pattern (`pre_tokenizer`: GPT-2's, arXiv 1909.03341, Llama 3's or Qwen's) cuts a text into words, and BPE never merges
across them. So each distinct word is merged once (`bpe_merges`) and then found in a hash table, by array code. Keys are
the bytes of the words, so the result is exact.
"""

import json
import re
from collections.abc import Iterator
from typing import Any

import numpy as np
import tokenizers
from numpy.typing import NDArray
from tokenizers import pre_tokenizers

from pipeline.tokenization.bpe_merges import Merges, byte_characters
from pipeline.tokenization.pre_tokenizer import SEPARATOR_BYTE, WordFinder, WordPattern
from pipeline.tokenization.token_ends import Untouched

PROBES = (
    "It's we'll they've I'm you're he'd 'tis 'S ''s \n's don'ts 's's",
    "  two  blanks\t\ttabs \n\n lines\r\n  and an end  ",
    "3.14 1,000,000 x2 2x _a_b --flag=value {'k': [1]} https://example.org/a?b=c#d",
    "Ünïcödé naïve 世界。你好！ 한국어 हिन्दी ١٢٣ ²³ Ⅷ 🙂👩‍👩‍👧 e\u0301 \u00a0\u3000\u2028 \x00\x1c\x85",
    "",
    " ",
    "a",
)
"""Texts on which the faster engine must give the ids of `tokenizers` before it is used."""

_CHUNK_CHARACTERS = 2**20
_BLANKS_BEGIN = re.compile(r"(?<=[^\s\x1c-\x1f\x85])[ \t]")
_KEY_BYTES = 15
"""Longest word in the hash table, in bytes; longer ones are rare in most scripts and are kept in a dictionary."""
_MERGED_BYTES = 256
"""Longest word that is merged by array code, which takes one round per merge of the word."""
_PADDING = 32
"""Zero bytes after the last word, so that a key can be read at every offset."""
_MAX_WORDS = 2**20
"""Words in the hash table before it is emptied; about 60 MB at most."""
_FIRST_SLOTS = 2**15
_MULTIPLIERS = np.array([0x9E3779B97F4A7C15, 0xC2B2AE3D27D4EB4F], np.uint64)
_MASKS = np.array([(1 << 8 * size) - 1 for size in range(9)], np.uint64)

_OPTIONS_NOT_COVERED = ("dropout", "continuing_subword_prefix", "end_of_word_suffix", "byte_fallback")

Words = NDArray[np.int64]


def is_supported(tree: dict[str, Any]) -> bool:
    """Whether `tokenizer.json` is a plain byte-level BPE with a `WordPattern`, and no normalizer but NFC."""
    model = tree["model"]
    return (
        model["type"] == "BPE"
        and not any(model.get(key) for key in _OPTIONS_NOT_COVERED)
        and tree["normalizer"] in (None, {"type": "NFC"})
        and WordPattern.of(tree["pre_tokenizer"]) is not None
        and model["vocab"].keys() >= set(pre_tokenizers.ByteLevel.alphabet())
    )


class ByteLevelEncoder:
    """Encodes texts to the tokenizer's ids, and caches the ids of words. Memory is bounded by `_MAX_WORDS`."""

    def __init__(self, backend: tokenizers.Tokenizer, tree: dict[str, Any] | None = None) -> None:
        """`tree` is the tokenizer's JSON, one that `is_supported`."""
        tree = tree or json.loads(backend.to_str())
        pattern = WordPattern.of(tree["pre_tokenizer"])
        assert pattern is not None
        self._backend = backend
        self._finder = WordFinder(backend, pattern)
        self._merges = Merges(tree["model"])
        self._whole_words = _whole_words(tree["model"])
        self._untouched = Untouched(tree)
        self._ids = np.zeros(0, np.int32)
        self._starts = self._counts = np.zeros(1, np.int64)
        self._long_words: dict[bytes, int] = {}
        self._num_keys = 0
        self._make_slots(_FIRST_SLOTS)

    def covers(self, text: str) -> bool:
        """Whether `encode` gives the tokenizer's ids: not for text that the tokenizer normalizes or that has an added
        token."""
        return self._untouched(text)

    def encode(self, texts: list[str]) -> tuple[NDArray[np.int32], NDArray[np.int64]]:
        """Ids of all texts, concatenated, and the number of ids per text; it must `cover` each text."""
        chunks = [list(_chunks(text)) for text in texts]
        ids: list[NDArray[np.int32]] = [np.zeros(0, np.int32)]
        counts: list[NDArray[np.int64]] = [np.zeros(0, np.int64)]
        for batch in _batches([chunk for of_text in chunks for chunk in of_text]):
            batch_ids, batch_counts = self._encode_batch(batch)
            ids.append(batch_ids)
            counts.append(batch_counts)
        ends = np.append(0, np.cumsum(np.concatenate(counts)))
        return np.concatenate(ids), np.diff(ends[np.cumsum([0, *map(len, chunks)])])

    def _encode_batch(self, texts: list[str]) -> tuple[NDArray[np.int32], NDArray[np.int64]]:
        joined = b"".join(part for text in texts for part in (text.encode(), b"\xff"))
        padded = np.frombuffer(joined + bytes(_PADDING), np.uint8)
        data = padded[: len(joined)]
        starts = self._finder.starts(data, all(map(str.isascii, texts)))
        words = self._word_numbers(joined, padded, starts)
        counts = self._counts[words]
        ends = np.cumsum(counts)
        # For each id: the offset of its word's ids in the cache minus their offset in the result.
        shift = np.repeat(self._starts[words] - (ends - counts), counts)
        ids = self._ids[shift + np.arange(len(shift))]
        return ids, np.diff(ends[words == 0], prepend=0)

    def _word_numbers(self, joined: bytes, padded: NDArray[np.uint8], starts: NDArray[np.int64]) -> Words:
        """[words] index of each word in the cache; new words are added."""
        sizes = np.diff(starts, append=len(joined))
        first, second = _keys(padded, starts, sizes)
        is_long = sizes > _KEY_BYTES
        long_words = [
            joined[start : start + size] for start, size in zip(starts[is_long], sizes[is_long], strict=True)
        ]
        if len(self._counts) > _MAX_WORDS:
            self._clear()
        words = self._find(first, second)
        words[is_long | (padded[starts] == SEPARATOR_BYTE)] = 0
        # A few large rounds of merging cost less than many small ones, so long words are merged with short ones.
        new = [word for word in dict.fromkeys(long_words) if word not in self._long_words]
        while len(missing := np.flatnonzero(words < 0)):
            # One word per hash. Words with equal hashes are added in another round.
            one = missing[np.unique(_mixed(first[missing], second[missing]), return_index=True)[1]]
            new += [joined[start : start + size] for start, size in zip(starts[one], sizes[one], strict=True)]
            self._add(new)
            words[missing] = self._find(first[missing], second[missing])
            new = []
        self._add(new)
        words[is_long] = np.fromiter(map(self._long_words.__getitem__, long_words), np.int64, len(long_words))
        return words

    def _find(self, first: NDArray[np.uint64], second: NDArray[np.uint64]) -> Words:
        """[keys] index of the word with each key, or -1."""
        slots = self._slots(first, second)
        words = self._slot_word[slots].astype(np.int64)
        unlike = (self._slot_first[slots] != first) | (self._slot_second[slots] != second)
        pending = np.flatnonzero(unlike & (words >= 0))
        words[unlike] = -1
        mask = len(self._slot_word) - 1
        slots = slots[pending]
        while len(pending):
            slots = (slots + 1) & mask
            found = self._slot_word[slots]
            same = (self._slot_first[slots] == first[pending]) & (self._slot_second[slots] == second[pending])
            words[pending[same]] = found[same]
            go_on = ~same & (found >= 0)
            pending, slots = pending[go_on], slots[go_on]
        return words

    def _add(self, new: list[bytes]) -> None:
        """Encode new words and add them to the cache."""
        if not new:
            return
        merged = [word for word in new if len(word) <= _MERGED_BYTES]
        longer = [word for word in new if len(word) > _MERGED_BYTES]
        words = merged + longer
        parts = [np.zeros(0, np.int32)]
        counts = np.zeros(0, np.int64)
        if merged:
            ids, counts = self._merged(merged)
            parts.append(ids)
        encodings = self._backend.encode_batch_fast(
            [word.decode() for word in longer], add_special_tokens=False
        )
        parts += [np.array(encoding.ids, np.int32) for encoding in encodings]
        counts = np.append(counts, np.array([len(encoding.ids) for encoding in encodings], np.int64))
        flat = np.concatenate(parts)
        numbers = range(len(self._counts), len(self._counts) + len(words))
        self._starts = np.append(self._starts, len(self._ids) + np.cumsum(counts) - counts)
        self._counts = np.append(self._counts, counts)
        self._ids = np.append(self._ids, flat)
        sizes = np.array([len(word) for word in words], np.int64)
        padded = np.frombuffer(b"".join(words) + bytes(_PADDING), np.uint8)
        short = np.flatnonzero(sizes <= _KEY_BYTES)
        first, second = _keys(padded, (np.cumsum(sizes) - sizes)[short], sizes[short])
        if 2 * (self._num_keys + len(short)) > len(self._slot_word):
            self._grow(self._num_keys + len(short))
        self._insert(first, second, short + numbers.start)
        self._num_keys += len(short)
        self._long_words.update((words[i], numbers[i]) for i in np.flatnonzero(sizes > _KEY_BYTES).tolist())

    def _merged(self, words: list[bytes]) -> tuple[NDArray[np.int32], NDArray[np.int64]]:
        """Ids of the words, concatenated, and the number of ids per word."""
        ids, counts = self._merges.apply(words)
        whole = [self._whole_words.get(word, -1) for word in words] if self._whole_words else []
        if not any(index >= 0 for index in whole):
            return ids, counts
        parts = np.split(ids, np.cumsum(counts)[:-1])
        parts = [
            part if index < 0 else np.array([index], np.int32)
            for index, part in zip(whole, parts, strict=True)
        ]
        return np.concatenate(parts), np.array(list(map(len, parts)), np.int64)

    def _clear(self) -> None:
        """Clear the cache except word 0: the separator, which has no ids."""
        self._ids, self._starts, self._counts = self._ids[:0], self._starts[:1], self._counts[:1]
        self._long_words, self._num_keys = {}, 0
        self._make_slots(_FIRST_SLOTS)

    def _make_slots(self, size: int) -> None:
        self._slot_word = np.full(size, -1, np.int32)
        self._slot_first = np.zeros(size, np.uint64)
        self._slot_second = np.zeros(size, np.uint64)

    def _grow(self, num_keys: int) -> None:
        taken = self._slot_word >= 0
        kept = self._slot_first[taken], self._slot_second[taken], self._slot_word[taken]
        self._make_slots(1 << (4 * num_keys - 1).bit_length())
        self._insert(*kept)

    def _insert(
        self, first: NDArray[np.uint64], second: NDArray[np.uint64], words: NDArray[np.integer]
    ) -> None:
        """Insert keys, all new and different, each into the first free slot from its own on."""
        slots = self._slots(first, second)
        while len(words):
            free = self._slot_word[slots] < 0
            self._slot_word[slots[free]] = words[free]
            placed = self._slot_word[slots] == words
            self._slot_first[slots[placed]] = first[placed]
            self._slot_second[slots[placed]] = second[placed]
            slots, first, second, words = (x[~placed] for x in (slots, first, second, words))
            slots = (slots + 1) & (len(self._slot_word) - 1)

    def _slots(self, first: NDArray[np.uint64], second: NDArray[np.uint64]) -> NDArray[np.int64]:
        return (_mixed(first, second) >> np.uint64(65 - len(self._slot_word).bit_length())).astype(np.int64)


def _whole_words(model: dict[str, Any]) -> dict[bytes, int]:
    """Words that are one token without merging (`ignore_merges`), by their bytes."""
    if not model.get("ignore_merges"):
        return {}
    byte_of = {character: byte for byte, character in enumerate(byte_characters())}
    return {
        bytes(map(byte_of.__getitem__, token)): index
        for token, index in model["vocab"].items()
        if all(character in byte_of for character in token)
    }


def _chunks(text: str) -> Iterator[str]:
    """Parts of a long text, cut where blanks begin after something else: there a word begins in every pattern."""
    start = 0
    while len(text) - start > _CHUNK_CHARACTERS:
        cut = _BLANKS_BEGIN.search(text, start + _CHUNK_CHARACTERS)
        if cut is None:
            break
        yield text[start : cut.start()]
        start = cut.start()
    yield text[start:]


def _batches(texts: list[str]) -> Iterator[list[str]]:
    """Batches of about `_CHUNK_CHARACTERS`, which fit the processor's caches and bound the memory."""
    batch: list[str] = []
    size = 0
    for text in texts:
        batch.append(text)
        size += len(text)
        if size >= _CHUNK_CHARACTERS:
            yield batch
            batch, size = [], 0
    if batch:
        yield batch


def _mixed(first: NDArray[np.uint64], second: NDArray[np.uint64]) -> NDArray[np.uint64]:
    mixed = first * _MULTIPLIERS[0] ^ second * _MULTIPLIERS[1]
    mixed ^= mixed >> np.uint64(32)
    return mixed * _MULTIPLIERS[0]


def _keys(
    padded: NDArray[np.uint8], starts: NDArray[np.int64], sizes: NDArray[np.int64]
) -> tuple[NDArray[np.uint64], NDArray[np.uint64]]:
    """The bytes of each word as two numbers, with its size in the last byte; invalid for longer words."""
    aligned = padded[: len(padded) // 8 * 8].view("<u8")
    index = starts >> 3
    shift = (starts & 7).astype(np.uint64) * np.uint64(8)
    # Shifted in two steps, because one of 64 bits does nothing.
    unshift = np.uint64(63) - shift
    middle = aligned[index + 1]
    first = aligned[index] >> shift | (middle << np.uint64(1)) << unshift
    second = middle >> shift | (aligned[index + 2] << np.uint64(1)) << unshift
    first &= _MASKS[np.minimum(sizes, 8)]
    second &= _MASKS[np.clip(sizes - 8, 0, 7)]
    second |= sizes.astype(np.uint64) << np.uint64(56)
    return first, second
