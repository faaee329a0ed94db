"""Positions that each part of a model computes, and (query, key) pairs of its attention, in training and generation.

Shape suffixes: S sentences, D windows of documents.
"""

from dataclasses import dataclass
from typing import Any, Literal, Self

import numpy as np
from numpy.typing import ArrayLike

Positions = Literal["tokens", "decoder_positions", "sentences", "decoded_sentences", "trunk_positions"]


@dataclass(frozen=True)
class Workload:
    """Positions that each part of a model computes, and (query, key) pairs of its attention."""

    tokens: float = 0.0
    """Document tokens: positions of the sentence encoder, and of a token-level model."""
    loss_tokens: float = 0.0
    """Document tokens in the training loss."""
    decoded_context_tokens: float = 0.0
    """Context-only tokens that the decoder computes because of its window."""
    sentences: float = 0.0
    decoded_sentences: float = 0.0
    windows: float = 0.0
    """Windows of documents; each has one start vector before its sentences."""
    token_pairs: float = 0.0
    """Pairs in the sentence encoder, or in a token-level model."""
    decoder_pairs: float = 0.0
    """Pairs in the sentence decoder."""
    trunk_pairs: float = 0.0
    """Pairs in the trunk over sentences."""
    context_pairs: float = 0.0
    """Pairs of the decoder's positions and the earlier sentences in their cross-attention."""

    def positions(self, kind: Positions) -> float:
        """Positions of a part."""
        return {
            "tokens": self.tokens,
            "decoder_positions": self.loss_tokens + self.decoded_context_tokens + self.decoded_sentences,
            "sentences": self.sentences,
            "decoded_sentences": self.decoded_sentences,
            "trunk_positions": self.sentences + self.windows,
        }[kind]

    @classmethod
    def of_sentences(
        cls,
        tokens_S: ArrayLike,
        sentences_D: ArrayLike,
        context_D: ArrayLike | None = None,
        decoder_window: int = 0,
        decoded_context_positions: int = 0,
    ) -> Self:
        """Training of a sentence-level model on sentences of these lengths, in windows of these numbers of sentences.

        The first `context_D` are context-only. Of them the decoder computes only those within
        `decoded_context_positions` positions before the first sentence in the loss. `decoder_window`: positions that a
        position of the decoder attends to; 0: those of its sentence.
        """
        n_S, n_D = np.asarray(tokens_S, np.float64), np.asarray(sentences_D, np.int64)
        index_S = np.concatenate([np.arange(count) for count in n_D])
        context_D = np.zeros_like(n_D) if context_D is None else np.asarray(context_D)
        first_D = np.cumsum(n_D) - n_D
        ends_S = np.cumsum(n_S + 1)
        in_loss_S = index_S >= np.repeat(context_D, n_D)
        loss_from_D = (ends_S - n_S - 1)[first_D + context_D]
        decoded_S = in_loss_S | (np.repeat(loss_from_D, n_D) - ends_S < decoded_context_positions)
        positions_S = np.where(decoded_S, n_S + 1, 0)
        positions_D = np.add.reduceat(positions_S, first_D)
        pairs = (
            _causal_pairs(positions_S) if decoder_window == 0 else _window_pairs(positions_D, decoder_window)
        )
        return cls(
            tokens=n_S.sum(),
            loss_tokens=n_S[in_loss_S].sum(),
            decoded_context_tokens=n_S[decoded_S & ~in_loss_S].sum(),
            sentences=len(n_S),
            decoded_sentences=decoded_S.sum(),
            windows=len(n_D),
            token_pairs=(n_S**2).sum(),
            decoder_pairs=pairs.sum(),
            trunk_pairs=_causal_pairs(n_D + 1.0).sum(),
            context_pairs=(positions_S * (index_S + 1)).sum(),
        )

    @classmethod
    def of_tokens(cls, tokens_D: ArrayLike, context_D: ArrayLike = 0) -> Self:
        """Training of a token-level model on windows of these numbers of tokens, the first `context_D` of them
        context-only."""
        n_D = np.asarray(tokens_D, np.float64)
        return cls(
            tokens=n_D.sum(),
            loss_tokens=(n_D - np.asarray(context_D)).sum(),
            windows=len(n_D),
            token_pairs=_causal_pairs(n_D).sum(),
        )

    @classmethod
    def generated_token(cls, context_tokens: float) -> Self:
        """One more token of a token-level model that has `context_tokens` in its cache."""
        return cls(tokens=1.0, loss_tokens=1.0, token_pairs=context_tokens + 1)

    @classmethod
    def generated_tokens_until_full(cls, context_tokens: int) -> tuple[Self, int]:
        """A token-level model that recomputes the newer half of a full context: the work until it is full again, and
        the tokens generated meanwhile."""
        again = max(context_tokens // 2, 1)
        seen = np.arange(again + 1, context_tokens + 1)
        pairs = float(_causal_pairs(again) + seen.sum())
        return cls(tokens=context_tokens, token_pairs=pairs), context_tokens - again + 1

    @classmethod
    def generated_sentence(cls, tokens: float, context_sentences: float, decoder_window: int = 0) -> Self:
        """One more sentence of `tokens` tokens: decoded, encoded, passed through the trunk."""
        before = context_sentences * (tokens + 1)
        pairs = _causal_pairs(tokens + 1)
        if decoder_window:
            pairs = _window_pairs(before + tokens + 1, decoder_window) - _window_pairs(before, decoder_window)
        return cls(
            tokens=tokens,
            loss_tokens=tokens,
            sentences=1.0,
            decoded_sentences=1.0,
            token_pairs=tokens**2,
            decoder_pairs=pairs,
            trunk_pairs=context_sentences + 1,
            context_pairs=(tokens + 1) * (context_sentences + 1),
        )

    @classmethod
    def generated_sentences_until_full(
        cls, tokens: float, context_sentences: int, decoder_window: int = 0
    ) -> tuple[Self, int]:
        """A trunk that recomputes the newer half of a full context: the work until it is full again, and the sentences
        generated meanwhile, of `tokens` tokens each."""
        again = max(context_sentences // 2, 1)
        known = np.arange(again, context_sentences + 1)  # when each sentence is generated
        positions = len(known) * (tokens + 1)
        window_pairs = positions * decoder_window  # the window is full
        work = cls(
            tokens=len(known) * tokens,
            loss_tokens=len(known) * tokens,
            sentences=len(known),
            decoded_sentences=len(known),
            windows=again,  # recomputed positions of the trunk
            token_pairs=len(known) * tokens**2,
            decoder_pairs=window_pairs or len(known) * _causal_pairs(tokens + 1),
            trunk_pairs=_causal_pairs(again + 1) + (known[1:] + 1).sum(),
            context_pairs=(tokens + 1) * (known + 1).sum(),
        )
        return work, len(known)


def _causal_pairs(positions: Any) -> Any:
    """Pairs of positions that each attend to themselves and all before them."""
    return positions * (positions + 1) / 2


def _window_pairs(positions: Any, size: int) -> Any:
    """Pairs of positions that each attend to themselves and the `size` - 1 before them."""
    first = np.minimum(positions, size)
    return _causal_pairs(first) + (positions - first) * size
