"""The file that holds the learned segmenter: read, checked, and written with tables and matrices as int8."""

import dataclasses
import functools
import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from segmenters.contract import SegmenterError
from segmenters.learned.features import NUM_DENSITIES, NUM_GAPS, NUM_SHAPES, PADDING, Units
from segmenters.learned.networks import (
    FIRST_WORD,
    UNKNOWN_WORD,
    Convolution,
    Embedding,
    Floats,
    MarkedNet,
    UnmarkedNet,
    word_rows,
)

FORMAT_VERSION = 2
"""What the features mean and how they are summed."""
SHIPPED_WEIGHTS = Path(__file__).parent / "weights" / "learned_v1.safetensors"


@dataclasses.dataclass(frozen=True)
class Weights:
    """A vocabulary and the two networks."""

    check_V: NDArray[np.uint16]
    """What the word hash of a bucket's word is above the bits of the bucket, so that others are unknown."""
    marked: MarkedNet
    unmarked: UnmarkedNet
    unmarked_shift: float
    """Added to the log-odds in text without marks: there nothing is certain, and most boundaries are found, for as
    many wrong ones, at a lower probability."""
    digest: str
    """SHA-256 of the file."""

    def logits(self, row: Units) -> tuple[NDArray[np.int64], Floats]:
        """Units that might begin a sentence, and the log-odds that they do."""
        word_U = word_rows(row.word_U, self.check_V)
        density_UF = row.densities(word_U > UNKNOWN_WORD)
        unmarked_U = row.unmarked(density_UF)
        place_M = row.candidates(unmarked_U)
        unmarked_M = unmarked_U[place_M]
        logit_M = np.empty(len(place_M), np.float32)
        logit_M[~unmarked_M] = self.marked.logits(row, word_U, density_UF, place_M[~unmarked_M])
        logit_M[unmarked_M] = self.unmarked.logits(row, word_U, place_M[unmarked_M]) + self.unmarked_shift
        return place_M, logit_M


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
        return _weights(_Tensors(tensors), metadata, hashlib.sha256(data).hexdigest())
    except (KeyError, ValueError) as error:
        raise SegmenterError(f"the weights {path} are incomplete: {error}; {remedy}") from error


def _array(tensor: dict[str, Any]) -> NDArray[Any]:
    dtypes = {"F32": np.float32, "I8": np.int8, "U16": np.uint16}
    return np.frombuffer(tensor["data"], dtypes[tensor["dtype"]]).reshape(tensor["shape"])


@dataclasses.dataclass(frozen=True)
class _Tensors:
    """The arrays of a file, by name."""

    arrays: dict[str, NDArray[Any]]

    def table(self, name: str) -> Floats:
        return self.arrays[name].astype(np.float32) * self.arrays[f"{name}.scale"]

    def linear(self, name: str) -> tuple[Floats, Floats]:
        """Matrix `[in, out]` and bias."""
        return np.ascontiguousarray(self.table(f"{name}.weight").T), self.arrays[f"{name}.bias"]

    def norm(self, name: str) -> tuple[Floats, Floats]:
        return self.arrays[f"{name}.weight"], self.arrays[f"{name}.bias"]

    def embedding(self, net: str) -> Embedding:
        word, *others = (self.table(f"{net}.{part}") for part in ("word", "suffix", "shape", "gap"))
        rows = _word_rows_in_use(self.arrays["word.check"])
        word_VE = np.zeros((len(rows), word.shape[1]), np.float32)
        word_VE[rows] = word  # fails where they do not fit
        found = Embedding(word_VE, *others)
        if (len(found.shape_E), len(found.gap_E)) != (NUM_SHAPES, NUM_GAPS):
            raise ValueError(f"the embeddings of {net} do not fit the units")
        return found

    def count(self, prefix: str) -> int:
        """How many layers `prefix0`, `prefix1`, ... there are."""
        names = {name.split(".")[1] for name in self.arrays if name.startswith(prefix)}
        return len(names)


def _word_rows_in_use(check_V: NDArray[np.uint16]) -> NDArray[np.bool_]:
    """Rows of a word table that a word can have; those of empty buckets are not stored."""
    return np.concatenate([np.ones(FIRST_WORD, np.bool_), check_V > 0])


def _weights(tensors: _Tensors, metadata: Mapping[str, str], digest: str) -> Weights:
    layers = tuple(tensors.linear(f"marked.layer{n}") for n in range(tensors.count("marked.layer")))
    marked = MarkedNet(tensors.embedding("marked"), layers, int(metadata["before"]), int(metadata["after"]))
    window = (marked.before + marked.after) * marked.embedding.width
    if (
        not layers
        or len(layers[0][0]) != window + NUM_DENSITIES
        or max(marked.before, marked.after) > PADDING
    ):
        raise ValueError("the layers do not fit the window")
    convolutions = tuple(
        Convolution(tensors.norm(f"unmarked.norm{n}"), *tensors.linear(f"unmarked.convolution{n}"))
        for n in range(tensors.count("unmarked.convolution"))
    )
    if sum(convolution.reach for convolution in convolutions) > PADDING:
        raise ValueError("the convolutions reach over the padding between texts")
    unmarked = UnmarkedNet(
        tensors.embedding("unmarked"),
        tensors.linear("unmarked.inner"),
        convolutions,
        tensors.norm("unmarked.norm"),
        tensors.linear("unmarked.outer"),
    )
    check_V = tensors.arrays["word.check"]
    return Weights(check_V, marked, unmarked, float(metadata["unmarked_shift"]), digest)


def save_weights(path: Path, tensors: Mapping[str, NDArray[Any]], metadata: Mapping[str, str]) -> None:
    """Write tensors: tables and matrices as int8 with one scale a column (tables) or a row, the rest in float32;
    rows of word tables without a word are left out.

    The same bytes for the same values: the library writes the keys of the header in any order.
    """
    from safetensors.numpy import save

    stored: dict[str, NDArray[Any]] = {}
    for name, values in tensors.items():
        if name.endswith(".word"):
            values = values[_word_rows_in_use(tensors["word.check"])]
        if values.ndim == 2:
            axis = 1 if name.endswith(".weight") else 0
            peak = np.abs(values).max(axis=axis, keepdims=True)
            scale = np.maximum(peak, 1e-8).astype(np.float32) / 127
            stored[name] = np.round(values / scale).astype(np.int8)
            stored[f"{name}.scale"] = scale
        else:
            stored[name] = values
    data = save(stored, metadata={"format_version": str(FORMAT_VERSION), **metadata})
    size = int.from_bytes(data[:8], "little")
    header = json.dumps(json.loads(data[8 : 8 + size]), sort_keys=True, separators=(",", ":")).encode()
    header += b" " * (-len(header) % 8)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(len(header).to_bytes(8, "little") + header + data[8 + size :])
