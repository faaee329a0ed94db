"""The learned segmenter `learned_v1`.

Code and tables are cut by rules. In prose, `segmenters.learned.networks` give each candidate the log-odds that a
sentence begins there; dynamic programming enforces length constraints. It needs only numpy.
"""

import dataclasses
import math
from pathlib import Path
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from segmenters.batching import SEPARATOR, WINDOW
from segmenters.characters import Kind
from segmenters.contract import Ends, Segmenter, SegmenterError
from segmenters.learned.features import extract_features
from segmenters.learned.length_constraints import best_cuts, ranges_to_split_again
from segmenters.learned.regions import split_regions
from segmenters.learned.weights_file import SHIPPED_WEIGHTS, load_weights
from segmenters.punctuation import Punctuation

_LETTERS_PER_TOKEN = 5  # too many for rare words, too few for frequent English ones
_FALLBACK_GAINS = np.array(
    [-16, -12, -12], np.float32
)  # of a boundary without a gap, at a space, at a wider gap
_AFTER_PAUSE = 4.0
_UNCONSTRAINED_GAIN = 10.0


def _tokens(length_W: NDArray[np.int32]) -> NDArray[np.int64]:
    """Estimated tokens per word, from lengths in characters."""
    return (length_W.astype(np.int64) + _LETTERS_PER_TOKEN - 1) // _LETTERS_PER_TOKEN


def _count_tokens(text: str, text_ends: Ends) -> NDArray[np.int64]:
    """Estimated tokens of each sentence; a word across two windows counts as two."""
    counts_S = np.zeros(len(text_ends), np.int64)
    for low in range(0, len(text), WINDOW):
        batch = f"{SEPARATOR}{text[low : low + WINDOW]}{SEPARATOR}"
        row = extract_features(batch, np.array([len(SEPARATOR)], np.int64), np.empty(0, np.int64))
        real_W = row.start_W >= 0
        sentence_W = np.searchsorted(text_ends, row.start_W[real_W] - len(SEPARATOR) + low, side="right")
        np.add.at(counts_S, sentence_W, _tokens(row.length_W[real_W]))
    return counts_S


@dataclasses.dataclass(frozen=True)
class Learned(Segmenter):
    """A small model, shipped: English prose, code and tables; in most other languages a rule is as good or better."""

    name: ClassVar[str] = "learned_v1"

    threshold: float = 0.5
    """A sentence ends where the probability is at least this; lower is finer, higher is coarser."""
    min_sentence_tokens: int = 1
    """A shorter sentence is joined to a neighbour. Tokens are estimated: one per punctuation mark, ideograph, or five
    letters of a word."""
    max_sentence_tokens: int | None = None
    """A longer sentence is cut at its most probable boundary; none: no maximum."""
    weights: str | None = None
    """Weights file or URL from `sllm train-segmenter`; none: the shipped weights."""

    def __post_init__(self) -> None:
        if not 0 < self.threshold < 1:
            raise SegmenterError(f"learned_v1: threshold is {self.threshold}, but must be between 0 and 1")
        if (
            self.min_sentence_tokens < 1
            or (self.max_sentence_tokens or self.min_sentence_tokens) < self.min_sentence_tokens
        ):
            raise SegmenterError(
                f"learned_v1: min_sentence_tokens is {self.min_sentence_tokens} and max_sentence_tokens "
                f"{self.max_sentence_tokens}: needs 1 <= min <= max"
            )
        load_weights(self._path)

    @property
    def _path(self) -> str | Path:
        return self.weights or SHIPPED_WEIGHTS

    @property
    def weights_digest(self) -> str:
        """SHA-256 of the weights file."""
        return load_weights(self._path).digest

    def split(self, texts: list[str]) -> list[Ends]:
        """See `Segmenter.split`."""
        whole = split_regions(texts, self.sentence_starts)
        if self.min_sentence_tokens == 1 and self.max_sentence_tokens is None:
            return whole
        return [self._constrained(text, text_ends) for text, text_ends in zip(texts, whole, strict=True)]

    def sentence_starts(self, batch: str, text_starts: Ends) -> Ends:
        """Where sentences begin in a batch of texts of prose (see `split_batched`)."""
        row = extract_features(batch, text_starts, Punctuation().sentence_starts(batch, text_starts))
        candidate_M, logit_M = load_weights(self._path).logits(row)
        return row.start_W[candidate_M[logit_M >= self._cut]]

    @property
    def _cut(self) -> float:
        """The threshold in log-odds."""
        return math.log(self.threshold / (1 - self.threshold))

    def _constrained(self, text: str, text_ends: Ends) -> Ends:
        """The ends, after each range that breaks a length constraint was split again."""
        high = self.max_sentence_tokens or len(text)
        starts = np.append(0, text_ends)
        tokens_S = _count_tokens(text, text_ends)
        kept: list[Ends] = []
        done = 0
        for first, last in ranges_to_split_again(tokens_S, self.min_sentence_tokens, high):
            low, wanted = int(starts[first]), text_ends[first:last]
            kept += [
                text_ends[done:first],
                self._split_again(text[low : wanted[-1]], wanted - low, high) + low,
            ]
            done = last
        return np.concatenate([*kept, text_ends[done:]])

    def _split_again(self, text: str, wanted: Ends, high: int) -> Ends:
        """The best ends of a text, window by window; `wanted` are the ends without constraints."""
        found: list[int] = []
        start = 0
        while start < len(text):
            window = text[start : start + WINDOW]
            ends = (self._best(window, wanted - start, high) + start).tolist()
            is_last = start + len(window) == len(text)
            found += [*ends, len(text)] if is_last else ends or [start + len(window)]
            start = found[-1]
        return np.array(found, np.int64)

    def _best(self, text: str, wanted: Ends, high: int) -> Ends:
        """The best inner ends of a text that is no longer than a window."""
        batch = f"{SEPARATOR}{text}{SEPARATOR}"
        text_starts = np.array([len(SEPARATOR)], np.int64)
        row = extract_features(batch, text_starts, Punctuation().sentence_starts(batch, text_starts))
        real_W = np.flatnonzero(row.start_W >= 0)
        if not len(real_W):
            return np.empty(0, np.int64)
        candidate_M, logit_M = load_weights(self._path).logits(row)
        gain_W = _FALLBACK_GAINS[np.minimum(row.gap_W >> np.uint8(1), 2)]
        gain_W[1:] += np.where(row.kind_W[:-1] == Kind.PAUSE, _AFTER_PAUSE, 0)
        gain_W[candidate_M] = np.maximum(gain_W[candidate_M], logit_M - self._cut)
        # A boundary that is not in `wanted` is chosen only to meet a constraint; then the most probable one.
        gain_W = np.minimum(gain_W[real_W], -1)
        start_W = row.start_W[real_W] - len(SEPARATOR)
        first_M = np.searchsorted(start_W, wanted[(wanted > 0) & (wanted < len(text))])
        gain_W[first_M[first_M < len(start_W)]] = _UNCONSTRAINED_GAIN
        return start_W[best_cuts(_tokens(row.length_W[real_W]), gain_W, self.min_sentence_tokens, high)]
