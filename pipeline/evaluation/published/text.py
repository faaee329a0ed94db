"""The part of a text that the published code reads, as documents in memory."""

import itertools
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from pipeline.stream.windows import DocumentSource, Int64
from pipeline.tokenization.tokenizer import Tokenizer
from segmenters.reference import MARKS

SENTENCE_TOKENS = 63
"""Tokens of a sentence that the published code keeps: with BOS 64 positions."""


class ReadText:
    """N documents in memory, a `DocumentSource`: from the token ids of the sentences of each document."""

    def __init__(self, documents: Sequence[Sequence[NDArray[np.int32]]], num_bytes_N: Int64) -> None:
        sentences = [sentence for document in documents for sentence in document]
        self._tokens = np.concatenate([np.zeros(0, np.int32), *sentences])
        self.num_bytes_N = num_bytes_N
        self.sentence_lengths = np.array([len(sentence) for sentence in sentences], np.int32)
        counts_N = [len(document) for document in documents]
        self.sentence_starts_N1: Int64 = np.concatenate([[0], np.cumsum(counts_N, dtype=np.int64)])
        ends = np.concatenate([[0], np.cumsum(self.sentence_lengths, dtype=np.int64)])
        self.token_starts_N1: Int64 = ends[self.sentence_starts_N1]

    def tokens(self, start: int, end: int) -> NDArray[np.int32]:
        """Ids of tokens `start` to `end`."""
        return self._tokens[start:end]

    def gather(self, start_W: Int64, end_W: Int64) -> NDArray[np.int32]:
        """Ids of W spans, one after the other."""
        spans = zip(start_W.tolist(), end_W.tolist(), strict=True)
        return np.concatenate([np.zeros(0, np.int32), *(self._tokens[start:end] for start, end in spans)])


def sentences_of(documents: DocumentSource) -> list[list[NDArray[np.int32]]]:
    """The token ids of each sentence of each document."""
    starts_N1, first_N1 = documents.sentence_starts_N1, documents.token_starts_N1
    found = []
    for index in range(len(documents.num_bytes_N)):
        lengths = documents.sentence_lengths[starts_N1[index] : starts_N1[index + 1]]
        tokens = documents.tokens(int(first_N1[index]), int(first_N1[index + 1]))
        found.append(np.split(tokens, np.cumsum(lengths, dtype=np.int64)[:-1]) if len(lengths) else [])
    return found


def as_read(documents: DocumentSource, tokenizer: Tokenizer, max_sentences: int | None = None) -> ReadText:
    """What the published code reads of documents: the first `max_sentences` sentences (there: 64; none: all) that end
    with a punctuation mark, of each the first 63 tokens.

    The shards must be cut by `reference_v1`, which has the published rule. A sentence over its limit is several pieces
    there: the first is kept, as published, and the others are not.
    """
    kept = [
        _kept(sentences, tokenizer)[: max_sentences or len(sentences)]
        for sentences in sentences_of(documents)
    ]
    return ReadText(kept, documents.num_bytes_N)


def _kept(sentences: Sequence[NDArray[np.int32]], tokenizer: Tokenizer) -> list[NDArray[np.int32]]:
    kept = []
    first: NDArray[np.int32] | None = None
    for sentence in sentences:
        first = sentence if first is None else first
        text = tokenizer.decode(sentence)
        words = text.rstrip()
        # White space goes to the sentence before it, so a line break in it has ended the sentence.
        if "\n" in text[len(words) :] or (words and words[-1] in MARKS):
            kept.append(first[:SENTENCE_TOKENS])
            first = None
    return kept


def first_tokens(documents: DocumentSource, count: int) -> ReadText:
    """The first `count` tokens of each document, as one sentence."""
    starts = documents.token_starts_N1.tolist()
    kept = [[documents.tokens(start, min(end, start + count))] for start, end in itertools.pairwise(starts)]
    return ReadText(kept, documents.num_bytes_N)
