"""Micro-batches as tensors: packed sentences for sentence-level models, padded rows for token-level ones.

Shape suffixes: D documents (windows of them), S sentences, T tokens, R tokens and end marks (T + S rows of the
sentence decoder), N sentences a window at most, L tokens a row at most.
"""

from dataclasses import dataclass, fields
from typing import Protocol, Self

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

from pipeline.ragged import RaggedLayout, ragged_layout
from pipeline.stream import Int64, Windows

IGNORED = -100
"""Target of a position that is not scored."""


class DocumentSource(Protocol):
    """What a batch reads of shards (`pipeline.shards.Documents`)."""

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


@dataclass(frozen=True)
class Batch:
    """Tensors and layouts that move to a device together."""

    def to(self, device: torch.device | str) -> Self:
        """The same batch on another device."""
        moved = {
            field.name: value.to(device) if isinstance(value, Tensor | RaggedLayout) else value
            for field in fields(self)
            for value in [getattr(self, field.name)]
        }
        return type(self)(**moved)


@dataclass(frozen=True)
class SentenceBatch(Batch):
    """Windows of documents as packed sentences: no padding but in the trunk's D rows."""

    tokens_T: Tensor
    """Document tokens, sentence after sentence."""
    sentences: RaggedLayout
    """Layout of the sentences in `tokens_T`."""
    decoder_inputs_R: Tensor
    """For each sentence a start mark and its tokens."""
    decoder_targets_R: Tensor
    """For each sentence its tokens and its end mark."""
    decoder_rows: RaggedLayout
    """Layout of the sentences in the decoder's rows."""
    window_rows: RaggedLayout
    """Layout of the windows in the decoder's rows."""
    window_S: Tensor
    """Window of each sentence."""
    place_S: Tensor
    """Place of each sentence in its window."""
    sentences_DN: Tensor
    """Sentence at each place of each window; 0 on places past the end."""
    stop_S: Tensor
    """1.0 where the document ends after the sentence."""
    scored_S: Tensor
    """False for sentences that are context only."""
    document_D: Tensor
    """Document of each window."""

    @classmethod
    def pack(
        cls,
        tokens_T: ArrayLike,
        lengths_S: ArrayLike,
        counts_D: ArrayLike,
        *,
        bos_id: int,
        eos_id: int,
        ends_document_D: NDArray[np.bool_] | None = None,
        context_D: NDArray[np.integer] | None = None,
        document_D: NDArray[np.integer] | None = None,
    ) -> "SentenceBatch":
        """From tokens, tokens a sentence, and sentences a window; by default each window is a document."""
        lengths_S, counts_D = np.asarray(lengths_S, np.int64), np.asarray(counts_D, np.int64)
        tokens_T = np.asarray(tokens_T, np.int64)
        assert lengths_S.sum() == len(tokens_T) and counts_D.sum() == len(lengths_S) and counts_D.min() > 0
        num_windows, num_sentences = len(counts_D), len(lengths_S)
        if ends_document_D is None:
            ends_document_D = np.ones(num_windows, bool)
        if context_D is None:
            context_D = np.zeros(num_windows, np.int64)
        if document_D is None:
            document_D = np.arange(num_windows)
        ends_S = np.cumsum(lengths_S)
        window_S = np.repeat(np.arange(num_windows), counts_D)
        first_D = np.cumsum(counts_D) - counts_D
        place_S = np.arange(num_sentences) - first_D[window_S]
        places_N = np.arange(int(counts_D.max()))
        inside_DN = places_N < counts_D[:, None]
        stop_S = np.zeros(num_sentences, np.float32)
        stop_S[first_D + counts_D - 1] = ends_document_D
        return cls(
            tokens_T=torch.from_numpy(tokens_T),
            sentences=ragged_layout(lengths_S),
            decoder_inputs_R=torch.from_numpy(np.insert(tokens_T, ends_S - lengths_S, bos_id)),
            decoder_targets_R=torch.from_numpy(np.insert(tokens_T, ends_S, eos_id)),
            decoder_rows=ragged_layout(lengths_S + 1),
            window_rows=ragged_layout(np.bincount(window_S, lengths_S + 1).astype(np.int64)),
            window_S=torch.from_numpy(window_S),
            place_S=torch.from_numpy(place_S),
            sentences_DN=torch.from_numpy(np.where(inside_DN, first_D[:, None] + places_N, 0)),
            stop_S=torch.from_numpy(stop_S),
            scored_S=torch.from_numpy(place_S >= np.asarray(context_D)[window_S]),
            document_D=torch.from_numpy(np.asarray(document_D, np.int64)),
        )


@dataclass(frozen=True)
class TokenBatch(Batch):
    """Windows of documents as rows of tokens, padded on the right."""

    inputs_DL: Tensor
    """Start mark and tokens; 0 past the end."""
    targets_DL: Tensor
    """Tokens, and the end mark where the document ends; `IGNORED` past the end and on context."""
    document_D: Tensor
    """Document of each window."""

    @classmethod
    def pack(
        cls,
        rows: list[NDArray[np.integer]],
        *,
        bos_id: int,
        eos_id: int,
        ends_document_D: NDArray[np.bool_] | None = None,
        context_D: NDArray[np.integer] | None = None,
        document_D: NDArray[np.integer] | None = None,
    ) -> "TokenBatch":
        """From the tokens of each window; by default each window is a document."""
        ends_document_D = np.ones(len(rows), bool) if ends_document_D is None else ends_document_D
        context_D = np.zeros(len(rows), np.int64) if context_D is None else context_D
        document_D = np.arange(len(rows)) if document_D is None else document_D
        longest = max(len(row) + int(ends) for row, ends in zip(rows, ends_document_D, strict=True))
        inputs_DL = np.zeros((len(rows), longest), np.int64)
        targets_DL = np.full((len(rows), longest), IGNORED, np.int64)
        inputs_DL[:, 0] = bos_id
        for i, row in enumerate(rows):
            inputs_DL[i, 1 : len(row) + 1] = row[: longest - 1]
            targets_DL[i, context_D[i] : len(row)] = row[context_D[i] :]
            if ends_document_D[i]:
                targets_DL[i, len(row)] = eos_id
        return cls(
            torch.from_numpy(inputs_DL),
            torch.from_numpy(targets_DL),
            torch.from_numpy(np.asarray(document_D, np.int64)),
        )


class WindowSource(Protocol):
    """Windows of documents that become batches."""

    tokens_W: Int64
    length_W: Int64

    def batch(self, index: Int64) -> Batch:
        """The windows `index` as a batch."""


class SentenceWindows:
    """Windows of at most `context_sentences` sentences, and how they become a `SentenceBatch`."""

    def __init__(
        self, documents: DocumentSource, context_sentences: int, bos_id: int, eos_id: int, overlap: int = 0
    ) -> None:
        self.documents, self.bos_id, self.eos_id = documents, bos_id, eos_id
        self.windows = Windows.cover(documents.sentence_starts_N1, context_sentences, overlap)
        token_ends = np.concatenate([[0], np.cumsum(documents.sentence_lengths, dtype=np.int64)])
        # Token offsets of sentences are taken from the document's own start: shards may leave gaps.
        of_document_W = (
            documents.token_starts_N1[self.windows.document_W]
            - token_ends[documents.sentence_starts_N1[self.windows.document_W]]
        )
        self.token_start_W = token_ends[self.windows.start_W] + of_document_W
        self.token_end_W = token_ends[self.windows.end_W] + of_document_W
        self.tokens_W: Int64 = self.token_end_W - self.token_start_W
        self.length_W: Int64 = self.windows.end_W - self.windows.start_W

    def batch(self, index: Int64) -> SentenceBatch:
        """The windows `index` as a batch."""
        windows = self.windows
        spans = [(int(windows.start_W[i]), int(windows.end_W[i])) for i in index]
        tokens = [self.documents.tokens(int(self.token_start_W[i]), int(self.token_end_W[i])) for i in index]
        return SentenceBatch.pack(
            np.concatenate(tokens),
            np.concatenate([self.documents.sentence_lengths[start:end] for start, end in spans]),
            np.array([end - start for start, end in spans]),
            bos_id=self.bos_id,
            eos_id=self.eos_id,
            ends_document_D=windows.ends_document_W[index],
            context_D=windows.context_W[index],
            document_D=windows.document_W[index],
        )


class TokenWindows:
    """Windows of at most `context_tokens` model inputs (the start mark among them) as `TokenBatch`es."""

    def __init__(
        self, documents: DocumentSource, context_tokens: int, bos_id: int, eos_id: int, overlap: int = 0
    ) -> None:
        self.documents, self.bos_id, self.eos_id = documents, bos_id, eos_id
        self.windows = Windows.cover(documents.token_starts_N1, context_tokens - 1, overlap)
        self.tokens_W: Int64 = self.windows.end_W - self.windows.start_W
        self.length_W = self.tokens_W

    def batch(self, index: Int64) -> TokenBatch:
        """The windows `index` as a batch."""
        windows = self.windows
        return TokenBatch.pack(
            [self.documents.tokens(int(windows.start_W[i]), int(windows.end_W[i])) for i in index],
            bos_id=self.bos_id,
            eos_id=self.eos_id,
            ends_document_D=windows.ends_document_W[index],
            context_D=windows.context_W[index],
            document_D=windows.document_W[index],
        )
