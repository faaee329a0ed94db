"""Windows over the documents of shards: the inputs of a model, and how they become micro-batches."""

from dataclasses import dataclass, replace
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray

from pipeline.stream.batches import Batch, ChunkMemory, SentenceBatch, TokenBatch

Int64 = NDArray[np.int64]


@dataclass(frozen=True)
class Windows:
    """W windows over documents, in units: sentences or tokens, numbered across documents.

    A document longer than a window is covered by several; each repeats units of the previous ones as context, which is
    not in the loss again.
    """

    document_W: Int64
    """Document of each window."""
    start_W: Int64
    """First unit."""
    end_W: Int64
    """Last unit, exclusive."""
    context_W: Int64
    """Leading context-only units: an earlier window has them in its loss."""
    ends_document_W: NDArray[np.bool_]
    """Whether the window reaches the end of its document."""

    @classmethod
    def cover(cls, starts_N1: Int64, size: int, overlap: int = 0) -> "Windows":
        """Windows of at most `size` units over documents whose units start at `starts_N1` (N + 1 offsets).

        Each has up to `size` - `overlap` units in the loss; its context is the `overlap` units before them, or as many
        as there are.
        """
        assert 0 <= overlap < size
        stride = size - overlap
        windows_N = -(-np.diff(starts_N1) // stride)
        document_W = np.repeat(np.arange(len(windows_N)), windows_N)
        rank_W = np.arange(len(document_W)) - np.repeat(np.cumsum(windows_N) - windows_N, windows_N)
        loss_start_W = starts_N1[document_W] + rank_W * stride
        start_W = np.maximum(loss_start_W - overlap, starts_N1[document_W])
        end_W = np.minimum(loss_start_W + stride, starts_N1[document_W + 1])
        return cls(
            document_W,
            start_W,
            end_W,
            loss_start_W - start_W,
            end_W == starts_N1[document_W + 1],
        )

    def __len__(self) -> int:
        return len(self.document_W)


class DocumentSource(Protocol):
    """Documents of shards (`pipeline.shards.documents.Documents`)."""

    @property
    def num_bytes_N(self) -> Int64:
        """UTF-8 bytes of each document."""

    @property
    def sentence_lengths(self) -> NDArray[np.int32]:
        """Tokens of each sentence, document after document."""

    @property
    def sentence_starts_N1(self) -> Int64:
        """First sentence of each document, and the number of sentences."""

    @property
    def token_starts_N1(self) -> Int64:
        """First token of each document, and the number of tokens."""

    def tokens(self, start: int, end: int) -> NDArray[np.int32]:
        """Tokens `start` to `end` of the corpus, inside one document: their ids, (end - start,)."""

    def gather(self, start_W: Int64, end_W: Int64) -> NDArray[np.int32]:
        """Tokens of spans, each inside one document, one after the other."""


class WindowSource(Protocol):
    """Windows of documents that become batches."""

    tokens_W: Int64
    """Document tokens of each window that are in the loss."""
    length_W: Int64
    """Length of each window; windows of similar length share a micro-batch."""

    def batch(self, index: Int64) -> Batch:
        """The windows of these numbers, a vector, as a batch."""


class SentenceWindows:
    """Windows of at most `context_sentences` sentences, and how they become a `SentenceBatch`."""

    def __init__(
        self,
        documents: DocumentSource,
        context_sentences: int,
        bos_id: int,
        eos_id: int,
        overlap: int = 0,
        decoded_context_positions: int | None = None,
    ) -> None:
        self.decoded_context_positions = decoded_context_positions
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
        loss_start_W = self.windows.start_W + self.windows.context_W
        self.tokens_W: Int64 = token_ends[self.windows.end_W] - token_ends[loss_start_W]
        # Without context-only sentences: windows at the start of a document have few of them, and share micro-batches
        # with the others, although this pads the input of the trunk.
        self.length_W: Int64 = self.windows.end_W - loss_start_W

    def batch(self, index: Int64) -> SentenceBatch:
        """The windows of these numbers, a vector, as a batch."""
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
            decoded_context_positions=self.decoded_context_positions,
        )

    def beginnings(self, index: Int64, counts_D: Int64) -> SentenceBatch:
        """The first sentences of the windows `index`, at most `counts_D` per window, as context."""
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
    """Windows of at most `context_tokens` model inputs (BOS among them) as `TokenBatch`es."""

    def __init__(
        self,
        documents: DocumentSource,
        context_tokens: int,
        bos_id: int,
        eos_id: int,
        overlap: int = 0,
        memory: ChunkMemory | None = None,
    ) -> None:
        self.documents, self.bos_id, self.eos_id, self.memory = documents, bos_id, eos_id, memory
        self.windows = Windows.cover(documents.token_starts_N1, context_tokens - 1, overlap)
        self.length_W: Int64 = self.windows.end_W - self.windows.start_W
        self.tokens_W = self.length_W - self.windows.context_W

    def batch(self, index: Int64) -> TokenBatch:
        """The windows of these numbers, a vector, as a batch."""
        windows = self.windows
        batch = TokenBatch.pack(
            self.documents.gather(windows.start_W[index], windows.end_W[index]),
            self.length_W[index],
            bos_id=self.bos_id,
            eos_id=self.eos_id,
            ends_document_D=windows.ends_document_W[index],
            context_D=windows.context_W[index],
            document_D=windows.document_W[index],
        )
        return batch if self.memory is None else self._with_chunks(batch, index, self.memory)

    def _with_chunks(self, batch: TokenBatch, index: Int64, memory: ChunkMemory) -> TokenBatch:
        windows, size = self.windows, memory.tokens
        first_D = self.documents.token_starts_N1[windows.document_W[index]]
        start_D, end_D = windows.start_W[index] - first_D, windows.end_W[index] - first_D
        from_D = np.maximum(start_D // size - memory.chunks, 0)  # in chunks of the document
        counts_D = end_D // size - from_D
        chunks_DCX = np.zeros((len(index), int(counts_D.max()), size), np.int64)
        if counts_D.any():
            tokens = self.documents.gather(
                first_D + from_D * size, first_D + np.maximum(end_D // size, from_D) * size
            )
            chunks_DCX[np.arange(chunks_DCX.shape[1]) < counts_D[:, None]] = tokens.reshape(-1, size)
        predicted_DL = start_D[:, None] + np.arange(batch.inputs_DL.shape[1])
        visible_DL = np.clip(predicted_DL // size - from_D[:, None], 0, counts_D[:, None])
        return replace(
            batch, chunks_DCX=torch.from_numpy(chunks_DCX), visible_DL=torch.from_numpy(visible_DL)
        )


def _joined_ranges(start_D: Int64, counts_D: Int64) -> Int64:
    """The integers of D ranges, one after the other."""
    ends_D = np.cumsum(counts_D)
    return np.arange(ends_D[-1]) + np.repeat(start_D - ends_D + counts_D, counts_D)
