"""The learned segmenter: a probability for every place where a sentence could end, then the best segmentation.

Structure first: code and tables are cut by rule. In prose, the networks of `segmenters.learned.networks` look at the
places where a sentence could begin; numpy alone.
"""

import dataclasses
import math
from pathlib import Path
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from segmenters.batching import SEPARATOR, WINDOW, split_batched
from segmenters.characters import Kind
from segmenters.contract import Ends, Segmenter, SegmenterError
from segmenters.learned.features import units
from segmenters.learned.length_constraints import best_cuts, stretches_to_mend
from segmenters.learned.logical_lines import structured_ends
from segmenters.learned.structure import Structure, regions
from segmenters.learned.weights_file import SHIPPED_WEIGHTS, load_weights
from segmenters.punctuation import Punctuation

_LETTERS_A_TOKEN = 5  # an estimate that is high for English and low for rare words
_FALLBACK_GAINS = np.array([-16, -12, -12], np.float32)  # of a cut inside a word, at a space, at more space
_AFTER_PAUSE = 4.0
_WANTED = 10.0


def _tokens(length_U: NDArray[np.int32]) -> NDArray[np.int64]:
    """Estimated tokens of units of so many characters."""
    return (length_U.astype(np.int64) + _LETTERS_A_TOKEN - 1) // _LETTERS_A_TOKEN


def _count_tokens(text: str, text_ends: Ends) -> NDArray[np.int64]:
    """Estimated tokens of each sentence; a word on the edge of a window may count as two."""
    counts_S = np.zeros(len(text_ends), np.int64)
    for low in range(0, len(text), WINDOW):
        batch = f"{SEPARATOR}{text[low : low + WINDOW]}{SEPARATOR}"
        row = units(batch, np.array([len(SEPARATOR)], np.int64), np.empty(0, np.int64))
        real_U = row.start_U >= 0
        sentence_U = np.searchsorted(text_ends, row.start_U[real_U] - len(SEPARATOR) + low, side="right")
        np.add.at(counts_S, sentence_U, _tokens(row.length_U[real_U]))
    return counts_S


@dataclasses.dataclass(frozen=True)
class Learned(Segmenter):
    """A small model, shipped: English prose, code and tables; in most other languages a rule is as good or better."""

    name: ClassVar[str] = "learned_v1"

    threshold: float = 0.5
    """A sentence ends where the probability is at least this; lower is finer, higher is coarser."""
    min_sentence_tokens: int = 1
    """A shorter sentence is joined to a neighbour. Tokens are estimated: one a mark, an ideograph, or five letters
    of a word."""
    max_sentence_tokens: int | None = None
    """A longer sentence is cut where the model likes it best; none: there is no limit."""
    weights: str | None = None
    """File of weights of your own, from `sllm train-segmenter`; none: those shipped."""

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
    def _path(self) -> Path:
        return Path(self.weights) if self.weights else SHIPPED_WEIGHTS

    @property
    def weights_digest(self) -> str:
        """SHA-256 of the weights file."""
        return load_weights(self._path).digest

    def split(self, texts: list[str]) -> list[Ends]:
        """See `Segmenter.split`."""
        stretches = [(number, region) for number, text in enumerate(texts) for region in regions(text)]
        prose = [texts[n][r.start : r.end] for n, r in stretches if r.structure is Structure.PROSE]
        prose_ends = iter(split_batched(prose, self.places))
        found: list[list[Ends]] = [[] for _ in texts]
        for number, region in stretches:
            if region.structure is Structure.PROSE:
                inner = next(prose_ends)
            else:
                inner = structured_ends(texts[number][region.start : region.end], region.structure)
            found[number].append(inner + region.start)
        whole = [np.concatenate([np.empty(0, np.int64), *part]) for part in found]
        if self.min_sentence_tokens == 1 and self.max_sentence_tokens is None:
            return whole
        return [self._limited(text, text_ends) for text, text_ends in zip(texts, whole, strict=True)]

    def places(self, batch: str, text_starts: Ends) -> Ends:
        """Where sentences begin in a batch of texts of prose (see `split_batched`)."""
        row = units(batch, text_starts, Punctuation().places(batch, text_starts))
        place_M, logit_M = load_weights(self._path).logits(row)
        return row.start_U[place_M[logit_M >= self._cut]]

    @property
    def _cut(self) -> float:
        """The threshold in log-odds."""
        return math.log(self.threshold / (1 - self.threshold))

    def _limited(self, text: str, text_ends: Ends) -> Ends:
        """The ends, with the stretches that break a limit of length segmented anew."""
        high = self.max_sentence_tokens or len(text)
        starts = np.append(0, text_ends)
        tokens_S = _count_tokens(text, text_ends)
        kept: list[Ends] = []
        done = 0
        for first, behind in stretches_to_mend(tokens_S, self.min_sentence_tokens, high):
            low, wanted = int(starts[first]), text_ends[first:behind]
            kept += [text_ends[done:first], self._mended(text[low : wanted[-1]], wanted - low, high) + low]
            done = behind
        return np.concatenate([*kept, text_ends[done:]])

    def _mended(self, text: str, wanted: Ends, high: int) -> Ends:
        """The best ends of a stretch, where `wanted` are those without limits; window by window."""
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
        """The best inner ends of a text of one window."""
        batch = f"{SEPARATOR}{text}{SEPARATOR}"
        text_starts = np.array([len(SEPARATOR)], np.int64)
        row = units(batch, text_starts, Punctuation().places(batch, text_starts))
        real_U = np.flatnonzero(row.start_U >= 0)
        if not len(real_U):
            return np.empty(0, np.int64)
        place_M, logit_M = load_weights(self._path).logits(row)
        gain_U = _FALLBACK_GAINS[np.minimum(row.gap_U >> np.uint8(1), 2)]
        gain_U[1:] += np.where(row.kind_U[:-1] == Kind.PAUSE, _AFTER_PAUSE, 0)
        gain_U[place_M] = np.maximum(gain_U[place_M], logit_M - self._cut)
        # A place that was not wanted is taken only for the limit's sake; of those, the likeliest.
        gain_U = np.minimum(gain_U[real_U], -1)
        start_U = row.start_U[real_U] - len(SEPARATOR)
        first_M = np.searchsorted(start_U, wanted[(wanted > 0) & (wanted < len(text))])
        gain_U[first_M[first_M < len(start_U)]] = _WANTED
        return start_U[best_cuts(_tokens(row.length_U[real_U]), gain_U, self.min_sentence_tokens, high)]
