"""Byte-pair merges of many words at once: each round merges the first-ranked pair of every word."""

from typing import Any

import numpy as np
from numpy.typing import NDArray
from tokenizers import pre_tokenizers

_NO_MERGE = 2**31 - 1


class Merges:
    """The merges of a byte-level BPE (arXiv 1508.07909), from `tokenizer.json`'s `model`."""

    def __init__(self, model: dict[str, Any]) -> None:
        vocab: dict[str, int] = model["vocab"]
        pairs = [merge if isinstance(merge, list) else merge.split(" ") for merge in model["merges"]]
        self._size = max(vocab.values(), default=0) + 1
        keys = np.array([vocab[left] * self._size + vocab[right] for left, right in pairs], np.int64)
        # If a pair is listed twice, the last entry counts.
        self._keys, last = np.unique(keys[::-1], return_index=True)
        self._ranks = (len(keys) - 1 - last).astype(np.int32)
        self._merged = np.array([vocab[left + right] for left, right in pairs], np.int32)
        made = {int(token): rank for rank, token in reversed(list(enumerate(self._merged)))}
        self._is_ordered = len(self._keys) == len(keys) == len(made) and all(
            made.get(vocab[part], -1) < rank for rank, pair in enumerate(pairs) for part in pair
        )
        """Whether each token is made by a merge of lower rank than the merges that use it, as after training."""
        self._byte_ids = np.array([vocab[character] for character in byte_characters()], np.int32)
        self._byte_ranks = self._rank(np.repeat(self._byte_ids, 256), np.tile(self._byte_ids, 256))

    def apply(self, words: list[bytes]) -> tuple[NDArray[np.int32], NDArray[np.int64]]:
        """Ids of the words (none empty), concatenated, and the number of ids per word."""
        data = np.frombuffer(b"".join(words), np.uint8)
        word = np.repeat(np.arange(len(words)), [len(text) for text in words])
        ids = self._byte_ids[data]
        # ranks[i] is that of the merge of i and i + 1.
        ranks = np.full(len(data), _NO_MERGE, np.int32)
        ranks[:-1] = self._byte_ranks[data[:-1].astype(np.int64) * 256 + data[1:]]
        ranks[:-1][word[:-1] != word[1:]] = _NO_MERGE
        done: list[tuple[NDArray[np.int32], NDArray[np.int64]]] = []
        while len(ids):
            starts = np.flatnonzero(np.append(True, word[1:] != word[:-1]))
            best = np.minimum.reduceat(ranks, starts)
            best_here = np.repeat(best, np.diff(starts, append=len(ids)))
            finished = best_here == _NO_MERGE
            done.append((ids[finished], word[finished]))
            at = np.flatnonzero((ranks == best_here) & ~finished)
            at = at[self._at_once(at, word)]
            ids[at] = self._merged[ranks[at]]
            kept = ~finished
            kept[at + 1] = False
            at = np.cumsum(kept)[at] - 1
            ids, word, ranks = ids[kept], word[kept], ranks[kept]
            ranks[at] = self._rank_beside(ids, word, at)
            before = at[at > 0] - 1
            ranks[before] = self._rank_beside(ids, word, before)
        all_ids, all_words = (np.concatenate(parts) for parts in zip(*done, strict=True))
        order = np.argsort(all_words, kind="stable")
        return all_ids[order], np.bincount(all_words, minlength=len(words))

    def _at_once(self, at: NDArray[np.int64], word: NDArray[np.int64]) -> NDArray[np.bool_]:
        """Which pairs of lowest rank are merged in one round.

        All that do not overlap; but only the first in a word whose merge may make a pair of lower rank.
        """
        joins = np.zeros(len(at), bool)
        if not self._is_ordered:
            joins[1:] = word[at[1:]] == word[at[:-1]]
            return ~joins
        joins[1:] = at[1:] == at[:-1] + 1
        first_of_run = np.maximum.accumulate(np.where(joins, 0, np.arange(len(at))))
        return (np.arange(len(at)) - first_of_run) % 2 == 0

    def _rank_beside(
        self, ids: NDArray[np.int32], word: NDArray[np.int64], at: NDArray[np.int64]
    ) -> NDArray[np.int32]:
        """Rank of the merge of each position with the next one."""
        following = np.minimum(at + 1, len(ids) - 1)
        inside = (word[at] == word[following]) & (following > at)
        return np.where(inside, self._rank(ids[at], ids[following]), _NO_MERGE)

    def _rank(self, left: NDArray[np.int32], right: NDArray[np.int32]) -> NDArray[np.int32]:
        if len(self._keys) == 0:
            return np.full(len(left), _NO_MERGE, np.int32)
        keys = left.astype(np.int64) * self._size + right
        index = np.minimum(np.searchsorted(self._keys, keys), len(self._keys) - 1)
        return np.where(self._keys[index] == keys, self._ranks[index], _NO_MERGE)


def byte_characters() -> list[str]:
    """The character that stands for each byte in a byte-level vocabulary."""
    printable = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    others = iter(range(0x100, 0x200))
    characters = [chr(byte if byte in printable else next(others)) for byte in range(256)]
    assert set(characters) == set(pre_tokenizers.ByteLevel.alphabet())
    return characters
