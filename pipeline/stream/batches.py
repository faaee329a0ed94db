"""Micro-batches as tensors: packed sentences for sentence-level models, padded rows for token-level ones.

Shape suffixes: D documents (windows of them), S sentences, T tokens, R tokens and end marks (T + S rows of the
sentence decoder), N sentences a window at most, L tokens a row at most.
"""

from dataclasses import dataclass, fields, replace
from functools import cached_property
from typing import Self

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

from pipeline.models.ragged import RaggedLayout, ragged_layout

IGNORED = -100
"""Target of a position that is not scored."""


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
class SentenceBatch(Batch):
    """Windows of documents as packed sentences: no padding but in the trunk's D rows.

    What follows from the tokens and the layouts is made on the device where it is asked for, and never moved.
    """

    tokens_T: Tensor
    """Document tokens, sentence after sentence."""
    sentences: RaggedLayout
    """Layout of the sentences in `tokens_T`."""
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
    rows_D: NDArray[np.int64]
    """Rows of each window in the decoder; stays on the CPU."""
    bos_id: int
    eos_id: int
    decoded_S: Tensor | None = None
    """Sentences that the decoder is to write; none: all. The others are for encoder and trunk alone."""
    part: "SentenceBatch | None" = None
    """The sentences `decoded_S` as a batch of their own; their places are those of the whole window."""

    @property
    def decoded(self) -> "SentenceBatch":
        """What the decoder is to write."""
        return self if self.part is None else self.part

    @property
    def longest_sentence(self) -> int:
        """Tokens of the longest sentence; known on the CPU."""
        return max(length for _, length in self.sentences.buckets)

    @cached_property
    def window_rows(self) -> RaggedLayout:
        """Layout of the windows in the decoder's rows; made for a lookup alone."""
        return ragged_layout(self.rows_D).to(self.window_S.device)

    @cached_property
    def decoder_rows(self) -> RaggedLayout:
        """Layout of the sentences in the decoder's rows, where each has one row more."""
        return self.sentences.lengthened()

    @cached_property
    def decoder_inputs_R(self) -> Tensor:
        """For each sentence a start mark and its tokens."""
        inputs_R = self.tokens_T.new_full((self.decoder_rows.num_tokens,), self.bos_id)
        return inputs_R.scatter_(0, self._row_T + 1, self.tokens_T)

    @cached_property
    def decoder_targets_R(self) -> Tensor:
        """For each sentence its tokens and its end mark."""
        targets_R = self.tokens_T.new_full((self.decoder_rows.num_tokens,), self.eos_id)
        return targets_R.scatter_(0, self._row_T, self.tokens_T)

    def places_in(self, other: "SentenceBatch") -> Tensor:
        """For each sentence one of window i of `other`, where i is its own window's number [S]: the one at the same
        place, and from the start again past the end."""
        counts_D = torch.bincount(other.window_S, minlength=len(other.document_D))
        first_D = counts_D.cumsum(0) - counts_D
        return first_D[self.window_S] + self.place_S % counts_D[self.window_S]

    @property
    def _row_T(self) -> Tensor:
        """The decoder's row that has each token as its target."""
        return torch.arange(len(self.tokens_T), device=self.tokens_T.device) + self.sentences.sequence_T

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
        decoded_context_rows: int | None = None,
    ) -> "SentenceBatch":
        """From tokens, tokens a sentence, and sentences a window; by default each window is a document.

        Of the first `context_D` sentences of a window, which are not scored, the decoder is to write all, or those that
        reach into the last `decoded_context_rows` rows before the first one that is.
        """
        lengths_S, counts_D = np.asarray(lengths_S, np.int64), np.asarray(counts_D, np.int64)
        tokens_T = np.asarray(tokens_T, np.int64)
        assert lengths_S.sum() == len(tokens_T) and counts_D.sum() == len(lengths_S) and counts_D.min() > 0
        num_windows, num_sentences = len(counts_D), len(lengths_S)
        if ends_document_D is None:
            ends_document_D = np.ones(num_windows, bool)
        if context_D is None:
            context_D = np.zeros(num_windows, np.int64)
        context_D = np.asarray(context_D, np.int64)
        if document_D is None:
            document_D = np.arange(num_windows)
        window_S = np.repeat(np.arange(num_windows), counts_D)
        first_D = np.cumsum(counts_D) - counts_D
        place_S = np.arange(num_sentences) - first_D[window_S]
        places_N = np.arange(int(counts_D.max()))
        inside_DN = places_N < counts_D[:, None]
        stop_S = np.zeros(num_sentences, np.float32)
        stop_S[first_D + counts_D - 1] = ends_document_D
        decoded_S, part = None, None
        if decoded_context_rows is not None:
            row_ends_S = np.cumsum(lengths_S + 1)
            scored_D = (row_ends_S - lengths_S - 1)[first_D + context_D]
            is_decoded_S = scored_D[window_S] - row_ends_S < decoded_context_rows
            skipped_D = counts_D - np.bincount(window_S, is_decoded_S).astype(np.int64)
            decoded_S = torch.from_numpy(np.flatnonzero(is_decoded_S))
            decoded = cls.pack(
                tokens_T[np.repeat(is_decoded_S, lengths_S)],
                lengths_S[is_decoded_S],
                counts_D - skipped_D,
                bos_id=bos_id,
                eos_id=eos_id,
                ends_document_D=ends_document_D,
                context_D=context_D - skipped_D,
                document_D=document_D,
            )
            part = replace(decoded, place_S=torch.from_numpy(place_S[is_decoded_S]))
        return cls(
            tokens_T=torch.from_numpy(tokens_T),
            sentences=ragged_layout(lengths_S),
            window_S=torch.from_numpy(window_S),
            place_S=torch.from_numpy(place_S),
            sentences_DN=torch.from_numpy(np.where(inside_DN, first_D[:, None] + places_N, 0)),
            stop_S=torch.from_numpy(stop_S),
            scored_S=torch.from_numpy(place_S >= context_D[window_S]),
            document_D=torch.from_numpy(np.asarray(document_D, np.int64)),
            rows_D=np.bincount(window_S, lengths_S + 1).astype(np.int64),
            bos_id=bos_id,
            eos_id=eos_id,
            decoded_S=decoded_S,
            part=part,
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
        tokens_T: ArrayLike,
        counts_D: ArrayLike,
        *,
        bos_id: int,
        eos_id: int,
        ends_document_D: NDArray[np.bool_] | None = None,
        context_D: NDArray[np.integer] | None = None,
        document_D: NDArray[np.integer] | None = None,
    ) -> "TokenBatch":
        """From tokens, and tokens a window; by default each window is a document."""
        tokens_T, counts_D = np.asarray(tokens_T), np.asarray(counts_D, np.int64)
        assert counts_D.sum() == len(tokens_T) and counts_D.min() > 0
        ends_document_D = np.ones(len(counts_D), bool) if ends_document_D is None else ends_document_D
        document_D = np.arange(len(counts_D)) if document_D is None else document_D
        longest = int((counts_D + ends_document_D).max())
        place_L = np.arange(longest)
        inside_DL = place_L < counts_D[:, None]
        inputs_DL = np.zeros((len(counts_D), longest), np.int64)
        targets_DL = np.full_like(inputs_DL, IGNORED)
        targets_DL[inside_DL] = tokens_T
        inputs_DL[:, 0] = bos_id
        np.copyto(inputs_DL[:, 1:], targets_DL[:, :-1], where=inside_DL[:, :-1])
        targets_DL[np.flatnonzero(ends_document_D), counts_D[ends_document_D]] = eos_id
        if context_D is not None and context_D.any():
            targets_DL[place_L < context_D[:, None]] = IGNORED
        return cls(
            torch.from_numpy(inputs_DL),
            torch.from_numpy(targets_DL),
            torch.from_numpy(np.asarray(document_D, np.int64)),
        )
