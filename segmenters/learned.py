"""The learned segmenter: a probability for every place where a sentence could end, then the best segmentation.

A unit (word, mark, ideograph) is the sum of small embeddings of its word, its last letters, its shape and the
gap before it. A window of units around a place goes through a small perceptron; numpy alone, one matrix product
for all places of a batch. In text with punctuation only a part of the places needs the look.
"""

import dataclasses
import functools
import hashlib
import json
import math
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from segmenters.batching import SEPARATOR, WINDOW, split_batched
from segmenters.characters import Kind
from segmenters.contract import Ends, Segmenter, SegmenterError
from segmenters.limits import best_cuts, stretches_to_mend
from segmenters.logical_lines import structured_ends
from segmenters.punctuation import Punctuation
from segmenters.structure import Structure, regions
from segmenters.units import NUM_DENSITIES, PADDING, Units, units

FORMAT_VERSION = 1
"""Of weights files: what the features mean and how they are summed."""
SHIPPED_WEIGHTS = Path(__file__).parent / "weights" / "learned_v1.safetensors"
UNKNOWN_WORD = 1
FIRST_WORD = 2
"""Rows of the word table: 0 padding, 1 any word out of the vocabulary, then one a bucket."""

LEAK = 0.1
"""Slope of the hidden units below 0: none of them dies on rare boundaries."""
_ROWS = 2**10  # places scored at once: their windows fit the processor's cache


@dataclasses.dataclass(frozen=True)
class Weights:
    """The arrays of a weights file, embeddings in float32. Shapes: V buckets, S suffixes, E width, H hidden."""

    check_V: NDArray[np.uint16]
    """What the word hash of a bucket's word is above the bits of the bucket, so that others are unknown."""
    word_VE: NDArray[np.float32]
    suffix_SE: NDArray[np.float32]
    shape_E: NDArray[np.float32]
    gap_E: NDArray[np.float32]
    layers: tuple[tuple[NDArray[np.float32], NDArray[np.float32]], ...]
    """Matrix and bias of each layer; the first takes the window's units and the densities."""
    before: int
    """Units of the window before the place."""
    after: int
    """Units of the window behind it."""
    barren_shift: float
    """Added to the log-odds where no mark or line break is near: there nothing is certain, and most boundaries are
    found, for as many wrong ones, at a lower probability."""
    digest: str

    def word_ids(self, word_U: NDArray[np.uint64]) -> NDArray[np.int64]:
        """Rows of the word table for hashes of words."""
        return word_rows(word_U, self.check_V)

    def logits(self, row: Units) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
        """Units that might begin a sentence, and the log-odds that they do."""
        word_U = self.word_ids(row.word_U)
        density_UF = row.densities(word_U > UNKNOWN_WORD)
        place_M = row.candidates(density_UF)
        unit_UE = self.word_VE[word_U]
        unit_UE += self.suffix_SE[row.suffix_U % np.uint64(len(self.suffix_SE))]
        unit_UE += self.shape_E[row.shape_U]
        unit_UE += self.gap_E[row.gap_U]
        unit_UE[row.start_U < 0] = 0
        width = (self.before + self.after) * unit_UE.shape[1]
        windows = np.lib.stride_tricks.as_strided(
            unit_UE,
            (max(len(unit_UE) - self.before - self.after + 1, 0), width),
            (unit_UE.strides[0], unit_UE.strides[1]),
            writeable=False,
        )
        logits = np.empty(len(place_M), np.float32)
        for low in range(0, len(place_M), _ROWS):
            part = place_M[low : low + _ROWS]
            (first, bias), *rest = self.layers
            hidden = windows[part - self.before] @ first[:width]
            hidden += density_UF[part] @ first[width:] + bias
            for matrix, bias in rest:
                hidden = np.maximum(hidden, hidden * np.float32(LEAK)) @ matrix + bias
            logits[low : low + _ROWS] = hidden[:, 0]
        return place_M, logits + self.barren_shift * row.barren(density_UF)[place_M].astype(np.float32)


def word_rows(word_U: NDArray[np.uint64], check_V: NDArray[np.uint16]) -> NDArray[np.int64]:
    """Row of the word table for each word hash: its bucket's where the check agrees, else `UNKNOWN_WORD`."""
    bucket_U = (word_U & np.uint64(len(check_V) - 1)).astype(np.int64)
    known_U = check_V[bucket_U] == word_check(word_U, len(check_V))
    return np.where(known_U, bucket_U + FIRST_WORD, UNKNOWN_WORD)


def word_check(word_U: NDArray[np.uint64], num_buckets: int) -> NDArray[np.uint16]:
    """The bits of a word hash above those of its bucket; 0, which marks an empty bucket, becomes 1."""
    return np.maximum((word_U >> np.uint64(int(math.log2(num_buckets)))).astype(np.uint16), 1)


@functools.lru_cache(maxsize=4)
def load_weights(path: Path) -> Weights:
    """Weights from a file. Raises `SegmenterError` for one that is missing, damaged or of another version."""
    from safetensors import SafetensorError, deserialize

    remedy = "make it with `sllm train-segmenter`, or leave the option out for the weights shipped with sllm"
    try:
        data = path.read_bytes()
    except OSError as error:
        raise SegmenterError(f"cannot read the weights {path}: {error.strerror}; {remedy}") from error
    try:
        tensors = {name: _array(tensor) for name, tensor in deserialize(data)}
        header = json.loads(data[8 : 8 + int.from_bytes(data[:8], "little")])
        metadata = header.get("__metadata__", {})
    except (SafetensorError, ValueError, KeyError) as error:
        raise SegmenterError(f"the weights {path} are damaged: {error}; {remedy}") from error
    if metadata.get("format_version") != str(FORMAT_VERSION):
        raise SegmenterError(
            f"the weights {path} have format version {metadata.get('format_version')}, but this sllm reads "
            f"{FORMAT_VERSION}; {remedy}"
        )
    try:
        return _weights(tensors, metadata, hashlib.sha256(data).hexdigest())
    except (KeyError, ValueError) as error:
        raise SegmenterError(f"the weights {path} are incomplete: {error}; {remedy}") from error


def _array(tensor: dict[str, Any]) -> NDArray[Any]:
    dtypes = {"F32": np.float32, "I8": np.int8, "U16": np.uint16}
    return np.frombuffer(tensor["data"], dtypes[tensor["dtype"]]).reshape(tensor["shape"])


def _weights(tensors: dict[str, NDArray[Any]], metadata: dict[str, str], digest: str) -> Weights:
    def table(name: str) -> NDArray[np.float32]:
        return tensors[name].astype(np.float32) * tensors[f"{name}.scale"]

    layers: list[tuple[NDArray[np.float32], NDArray[np.float32]]] = []
    while f"layer{len(layers)}.weight" in tensors:
        name = f"layer{len(layers)}"
        layers.append((np.ascontiguousarray(table(f"{name}.weight").T), tensors[f"{name}.bias"]))
    weights = Weights(
        tensors["word.check"],
        table("word"),
        table("suffix"),
        table("shape"),
        table("gap"),
        tuple(layers),
        int(metadata["before"]),
        int(metadata["after"]),
        float(metadata["barren_shift"]),
        digest,
    )
    window = (weights.before + weights.after) * weights.word_VE.shape[1]
    if (
        not layers
        or len(layers[0][0]) != window + NUM_DENSITIES
        or max(weights.before, weights.after) > PADDING
    ):
        raise ValueError("the layers do not fit the window")
    return weights


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
    """One small model for all languages and kinds of text, shipped with the package."""

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
