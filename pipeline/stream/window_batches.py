"""Windows over the documents of shards, and how they become micro-batches.

Shape suffixes: W windows of a source, D those of a micro-batch, N documents.
"""

from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from pipeline.stream.batches import Batch, SentenceBatch, TokenBatch
from pipeline.stream.windows import Int64, Windows


class DocumentSource(Protocol):
    """What a batch reads of shards (`pipeline.shards.reading.Documents`)."""

    @property
    def num_bytes_N(self) -> Int64:
        """UTF-8 bytes of each document."""

    @property
    def sentence_lengths(self) -> NDArray[np.int32]:
        """Tokens of each sentence, document after document."""

    @property
    def sentence_starts_N1(self) -> Int64:
        """First sentence of each document, and the end."""

    @property
    def token_starts_N1(self) -> Int64:
        """First token of each document, and the end."""

    def tokens(self, start: int, end: int) -> NDArray[np.int32]:
        """Tokens `start` to `end` of the corpus, inside one document."""

    def gather(self, start_W: Int64, end_W: Int64) -> NDArray[np.int32]:
        """Tokens of spans, each inside one document, one after the other."""


class WindowSource(Protocol):
    """Windows of documents that become batches."""

    tokens_W: Int64
    """Document tokens that each window scores."""
    length_W: Int64
    """Windows of like length share a micro-batch."""

    def batch(self, index: Int64) -> Batch:
        """The windows `index` as a batch."""


class SentenceWindows:
    """Windows of at most `context_sentences` sentences, and how they become a `SentenceBatch`."""

    def __init__(
        self,
        documents: DocumentSource,
        context_sentences: int,
        bos_id: int,
        eos_id: int,
        overlap: int = 0,
        decoded_context_rows: int | None = None,
    ) -> None:
        self.decoded_context_rows = decoded_context_rows
        self.documents, self.bos_id, self.eos_id = documents, bos_id, eos_id
        self.windows = Windows.cover(documents.sentence_starts_N1, context_sentences, overlap)
        token_ends = np.concatenate([[0], np.cumsum(documents.sentence_lengths, dtype=np.int64)])
        # Token offsets of sentences are taken from the document's own start: shards may leave gaps.
        self._of_document_W = (
            documents.token_starts_N1[self.windows.document_W]
            - token_ends[documents.sentence_starts_N1[self.windows.document_W]]
        )
        self._token_ends = token_ends
        self.token_start_W = token_ends[self.windows.start_W] + self._of_document_W
        self.token_end_W = token_ends[self.windows.end_W] + self._of_document_W
        scored_W = self.windows.start_W + self.windows.context_W
        self.tokens_W: Int64 = token_ends[self.windows.end_W] - token_ends[scored_W]
        # Sentences that are context only do not count: windows at the start of a document have few, and are to be mixed
        # with the others though the trunk's rows are padded for it.
        self.length_W: Int64 = self.windows.end_W - scored_W

    def batch(self, index: Int64) -> SentenceBatch:
        """The windows `index` as a batch."""
        windows = self.windows
        counts_D = (windows.end_W - windows.start_W)[index]
        return SentenceBatch.pack(
            self.documents.gather(self.token_start_W[index], self.token_end_W[index]),
            self.documents.sentence_lengths[_joined_ranges(windows.start_W[index], counts_D)],
            counts_D,
            bos_id=self.bos_id,
            eos_id=self.eos_id,
            ends_document_D=windows.ends_document_W[index],
            context_D=windows.context_W[index],
            document_D=windows.document_W[index],
            decoded_context_rows=self.decoded_context_rows,
        )

    def beginnings(self, index: Int64, counts_D: Int64) -> SentenceBatch:
        """The first sentences of the windows `index`, at most `counts_D` of each, for encoder and trunk alone."""
        start_D = self.windows.start_W[index]
        counts_D = np.minimum(counts_D, self.windows.end_W[index] - start_D)
        token_end_D = self._token_ends[start_D + counts_D] + self._of_document_W[index]
        return SentenceBatch.pack(
            self.documents.gather(self.token_start_W[index], token_end_D),
            self.documents.sentence_lengths[_joined_ranges(start_D, counts_D)],
            counts_D,
            bos_id=self.bos_id,
            eos_id=self.eos_id,
            document_D=self.windows.document_W[index],
        )


class TokenWindows:
    """Windows of at most `context_tokens` model inputs (the start mark among them) as `TokenBatch`es."""

    def __init__(
        self, documents: DocumentSource, context_tokens: int, bos_id: int, eos_id: int, overlap: int = 0
    ) -> None:
        self.documents, self.bos_id, self.eos_id = documents, bos_id, eos_id
        self.windows = Windows.cover(documents.token_starts_N1, context_tokens - 1, overlap)
        self.length_W: Int64 = self.windows.end_W - self.windows.start_W
        self.tokens_W = self.length_W - self.windows.context_W

    def batch(self, index: Int64) -> TokenBatch:
        """The windows `index` as a batch."""
        windows = self.windows
        return TokenBatch.pack(
            self.documents.gather(windows.start_W[index], windows.end_W[index]),
            self.length_W[index],
            bos_id=self.bos_id,
            eos_id=self.eos_id,
            ends_document_D=windows.ends_document_W[index],
            context_D=windows.context_W[index],
            document_D=windows.document_W[index],
        )


def _joined_ranges(start_D: Int64, counts_D: Int64) -> Int64:
    """The integers of D ranges, one after the other."""
    ends_D = np.cumsum(counts_D)
    return np.arange(ends_D[-1]) + np.repeat(start_D - ends_D + counts_D, counts_D)
