"""Micro-batches as tensors: packed sentences for sentence-level models, padded rows for token-level ones."""

from dataclasses import dataclass, fields
from functools import cached_property
from typing import Self

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

from pipeline.stream.ragged import RaggedLayout, ragged_layout

IGNORED = -100
"""Target of a position that is not in the loss."""


@dataclass(frozen=True)
class Batch:
    """Tensors and layouts that move to a device together."""

    def to(self, device: torch.device | str) -> Self:
        """The same batch on another device."""
        moved = {
            field.name: value.to(device) if isinstance(value, Tensor | RaggedLayout | Batch) else value
            for field in fields(self)
            for value in [getattr(self, field.name)]
        }
        return type(self)(**moved)


@dataclass(frozen=True)
class DecodedSentences(Batch):
    """The sentences of a batch that the decoder is trained or evaluated on: targets and their layout.

    What can be computed from tokens and layouts is computed on the device where it is needed, and never moved.
    """

    sentence_S: Tensor
    """Index of each sentence in the batch."""
    tokens_T: Tensor
    """Tokens of the sentences, in order."""
    sentences: RaggedLayout
    """Layout of the sentences in `tokens_T`."""
    window_S: Tensor
    """Window of each sentence."""
    index_S: Tensor
    """Index of each sentence in its window; sentences that are not decoded count too."""
    stop_S: Tensor
    """1.0 where the document ends after the sentence."""
    in_loss_S: Tensor
    """False for sentences that are context only."""
    positions_D: NDArray[np.int64]
    """Positions of the decoder in each window; stays on the CPU."""
    bos_id: int
    eos_id: int

    @property
    def longest_sentence(self) -> int:
        """Tokens of the longest sentence; known on the CPU."""
        return self.sentences.longest

    @cached_property
    def positions(self) -> RaggedLayout:
        """Layout of the sentences in the decoder's positions: one more per sentence than it has tokens."""
        return self.sentences.lengthened()

    @cached_property
    def window_positions(self) -> RaggedLayout:
        """Layout of the windows in the decoder's positions; only context attention uses it."""
        return ragged_layout(self.positions_D).to(self.window_S.device)

    @cached_property
    def inputs_R(self) -> Tensor:
        """For each sentence BOS and its tokens."""
        inputs_R = self.tokens_T.new_full((self.positions.num_tokens,), self.bos_id)
        return inputs_R.scatter_(0, self._position_T + 1, self.tokens_T)

    @cached_property
    def targets_R(self) -> Tensor:
        """For each sentence its tokens and EOS."""
        targets_R = self.tokens_T.new_full((self.positions.num_tokens,), self.eos_id)
        return targets_R.scatter_(0, self._position_T, self.tokens_T)

    @property
    def _position_T(self) -> Tensor:
        """The decoder's position that has each token as its target."""
        return torch.arange(len(self.tokens_T), device=self.tokens_T.device) + self.sentences.sequence_T


@dataclass(frozen=True)
class SentenceBatch(Batch):
    """Windows of documents as packed sentences: inputs of encoder and trunk, and the sentences of the decoder.

    Only the input of the trunk is padded [D, M].
    """

    tokens_T: Tensor
    """Document tokens, sentence after sentence."""
    sentences: RaggedLayout
    """Layout of the sentences in `tokens_T`."""
    window_S: Tensor
    """Window of each sentence."""
    index_S: Tensor
    """Index of each sentence in its window."""
    sentences_DM: Tensor
    """Sentences of each window; 0 past the last one."""
    document_D: Tensor
    """Document of each window."""
    decoded: DecodedSentences

    @property
    def longest_sentence(self) -> int:
        """Tokens of the longest sentence; known on the CPU."""
        return self.sentences.longest

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
        decoded_context_positions: int | None = None,
    ) -> "SentenceBatch":
        """From tokens, tokens per sentence, and sentences per window; by default each window is a document.

        The first `context_D` sentences of a window are not in the loss. The decoder computes all of them, or only those
        within `decoded_context_positions` positions before the first sentence in the loss.
        """
        lengths_S, counts_D = np.asarray(lengths_S, np.int64), np.asarray(counts_D, np.int64)
        tokens_T = np.asarray(tokens_T, np.int64)
        assert lengths_S.sum() == len(tokens_T) and counts_D.sum() == len(lengths_S) and counts_D.min() > 0
        num_windows = len(counts_D)
        if ends_document_D is None:
            ends_document_D = np.ones(num_windows, bool)
        if context_D is None:
            context_D = np.zeros(num_windows, np.int64)
        context_D = np.asarray(context_D, np.int64)
        if document_D is None:
            document_D = np.arange(num_windows)
        window_S = np.repeat(np.arange(num_windows), counts_D)
        first_D = np.cumsum(counts_D) - counts_D
        index_S = np.arange(len(lengths_S)) - first_D[window_S]
        index_M = np.arange(int(counts_D.max()))
        stop_S = np.zeros(len(lengths_S), np.float32)
        stop_S[first_D + counts_D - 1] = ends_document_D
        in_loss_S = index_S >= context_D[window_S]
        decoded_S = np.ones(len(lengths_S), bool)
        if decoded_context_positions is not None:
            ends_S = np.cumsum(lengths_S + 1)
            loss_start_D = (ends_S - lengths_S - 1)[first_D + context_D]
            decoded_S = loss_start_D[window_S] - ends_S < decoded_context_positions
        decoded = DecodedSentences(
            sentence_S=torch.from_numpy(np.flatnonzero(decoded_S)),
            tokens_T=torch.from_numpy(tokens_T[np.repeat(decoded_S, lengths_S)]),
            sentences=ragged_layout(lengths_S[decoded_S]),
            window_S=torch.from_numpy(window_S[decoded_S]),
            index_S=torch.from_numpy(index_S[decoded_S]),
            stop_S=torch.from_numpy(stop_S[decoded_S]),
            in_loss_S=torch.from_numpy(in_loss_S[decoded_S]),
            positions_D=np.bincount(window_S[decoded_S], lengths_S[decoded_S] + 1).astype(np.int64),
            bos_id=bos_id,
            eos_id=eos_id,
        )
        return cls(
            tokens_T=torch.from_numpy(tokens_T),
            sentences=ragged_layout(lengths_S),
            window_S=torch.from_numpy(window_S),
            index_S=torch.from_numpy(index_S),
            sentences_DM=torch.from_numpy(
                np.where(index_M < counts_D[:, None], first_D[:, None] + index_M, 0)
            ),
            document_D=torch.from_numpy(np.asarray(document_D, np.int64)),
            decoded=decoded,
        )


@dataclass(frozen=True)
class ChunkMemory:
    """Chunks of tokens before a window of tokens, cut from the document's start on, wherever sentences end."""

    tokens: int
    """Tokens of a chunk."""
    chunks: int
    """Most chunks before the window's first token; those inside the window come on top."""


@dataclass(frozen=True)
class TokenBatch(Batch):
    """Windows of documents as rows of tokens, padded on the right."""

    inputs_DL: Tensor
    """BOS and tokens; 0 past the end."""
    targets_DL: Tensor
    """Tokens, and EOS where the document ends; `IGNORED` past the end and on context."""
    document_D: Tensor
    """Document of each window."""
    chunks_DCX: Tensor | None = None
    """With a `ChunkMemory`: tokens of the chunks before and inside each window; 0 past the last one."""
    visible_DL: Tensor | None = None
    """With a `ChunkMemory`: how many chunks of its window end at or before the token that each position predicts."""

    @classmethod
    def pack(
        cls,
        tokens_T: ArrayLike,
        counts_D: ArrayLike,
        *,
        bos_id: int,
        eos_id: int,
        ends_document_D: NDArray[np.bool_] | None = None,
        context_D: NDArray[np.integer] | None = None,
        document_D: NDArray[np.integer] | None = None,
    ) -> "TokenBatch":
        """From tokens and tokens per window; by default each window is a document."""
        tokens_T, counts_D = np.asarray(tokens_T), np.asarray(counts_D, np.int64)
        assert counts_D.sum() == len(tokens_T) and counts_D.min() > 0
        ends_document_D = np.ones(len(counts_D), bool) if ends_document_D is None else ends_document_D
        document_D = np.arange(len(counts_D)) if document_D is None else document_D
        longest = int((counts_D + ends_document_D).max())
        index_L = np.arange(longest)
        inside_DL = index_L < counts_D[:, None]
        inputs_DL = np.zeros((len(counts_D), longest), np.int64)
        targets_DL = np.full_like(inputs_DL, IGNORED)
        targets_DL[inside_DL] = tokens_T
        inputs_DL[:, 0] = bos_id
        np.copyto(inputs_DL[:, 1:], targets_DL[:, :-1], where=inside_DL[:, :-1])
        targets_DL[np.flatnonzero(ends_document_D), counts_D[ends_document_D]] = eos_id
        if context_D is not None and context_D.any():
            targets_DL[index_L < context_D[:, None]] = IGNORED
        return cls(
            torch.from_numpy(inputs_DL),
            torch.from_numpy(targets_DL),
            torch.from_numpy(np.asarray(document_D, np.int64)),
        )
