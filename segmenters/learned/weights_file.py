"""The weights file of the learned segmenter: reading with checks; writing of tables and matrices as int8.

Tensors and metadata have the names of format version 2: `marked` is the network for punctuated text, `unmarked` the
one for unpunctuated text.
"""

import dataclasses
import functools
import hashlib
import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from segmenters.contract import SegmenterError
from segmenters.learned.features import NUM_DENSITIES, NUM_GAPS, NUM_SHAPES, PADDING, Features
from segmenters.learned.networks import (
    FIRST_WORD,
    UNKNOWN_WORD,
    Convolution,
    Embedding,
    Floats,
    Product,
    PunctuatedNet,
    UnpunctuatedNet,
    word_rows,
)

WEIGHTS_FORMAT_VERSION = 2
"""Raised when the meaning of the features or of a tensor changes."""
SHIPPED_WEIGHTS = Path(__file__).parent / "weights" / "learned_v1.safetensors"

Found = TypeVar("Found")


@dataclasses.dataclass(frozen=True)
class Weights:
    """A vocabulary and the two networks."""

    check_V: NDArray[np.uint16]
    """Upper bits of the hash of each bucket's word (`word_check`); a word with other bits is unknown."""
    punctuated: PunctuatedNet
    unpunctuated: UnpunctuatedNet
    unpunctuated_shift: float
    """Added to the log-odds in unpunctuated text, where F1 is best at a probability below one half."""
    digest: str
    """SHA-256 of the file."""

    def logits(self, row: Features) -> tuple[NDArray[np.int64], Floats]:
        """The candidates `[M]` for the first word of a sentence, and their log-odds `[M]`."""
        word_W = word_rows(row.word_W, self.check_V)
        density_WF = row.densities(word_W > UNKNOWN_WORD)
        unpunctuated_W = row.unpunctuated(density_WF)
        candidate_M = row.candidates(unpunctuated_W)
        unpunctuated_M = unpunctuated_W[candidate_M]
        logit_M = np.empty(len(candidate_M), np.float32)
        logit_M[~unpunctuated_M] = self.punctuated.logits(
            row, word_W, density_WF, candidate_M[~unpunctuated_M]
        )
        logit_M[unpunctuated_M] = (
            self.unpunctuated.logits(row, word_W, candidate_M[unpunctuated_M]) + self.unpunctuated_shift
        )
        return candidate_M, logit_M


@functools.lru_cache(maxsize=4)
def load_weights(path: str | Path) -> Weights:
    """Weights from a file or URL. Raises `SegmenterError` for one that is missing, damaged or of another version."""
    return read_weights(
        path,
        WEIGHTS_FORMAT_VERSION,
        lambda file: _weights(Tensors(file.arrays), file.metadata, file.digest),
    )


@dataclasses.dataclass(frozen=True)
class WeightsFile:
    """What is in a weights file."""

    arrays: dict[str, NDArray[Any]]
    metadata: dict[str, str]
    digest: str
    """SHA-256 of the file."""


def read_weights(path: str | Path, version: int, made: Callable[[WeightsFile], Found]) -> Found:
    """What `made` makes of a file or URL of this format version; it may raise `KeyError` and `ValueError`.

    Raises `SegmenterError` for a file that is missing, damaged, incomplete or of another version.
    """
    from safetensors import SafetensorError, deserialize

    remedy = "make it with `sllm train-segmenter`, or leave the option out for the weights shipped with sllm"
    try:
        data = _bytes_at(str(path))
    except OSError as error:
        reason = error.strerror or error
        raise SegmenterError(f"cannot read the weights {path}: {reason}; {remedy}") from error
    try:
        tensors = {name: _array(tensor) for name, tensor in deserialize(data)}
        header = json.loads(data[8 : 8 + int.from_bytes(data[:8], "little")])
        metadata = header.get("__metadata__", {})
    except (SafetensorError, ValueError, KeyError) as error:
        raise SegmenterError(f"the weights {path} are damaged: {error}; {remedy}") from error
    if metadata.get("format_version") != str(version):
        raise SegmenterError(
            f"the weights {path} have format version {metadata.get('format_version')}, but this sllm reads "
            f"{version}; {remedy}"
        )
    try:
        return made(WeightsFile(tensors, metadata, hashlib.sha256(data).hexdigest()))
    except (KeyError, ValueError) as error:
        raise SegmenterError(f"the weights {path} are incomplete: {error}; {remedy}") from error


def _bytes_at(path: str) -> bytes:
    if "://" not in path:
        return Path(path).read_bytes()
    import fsspec  # only for URLs

    try:
        system, inside = fsspec.core.url_to_fs(path)
        found: bytes = system.cat_file(inside)
        return found
    except Exception as error:  # each file system has errors of its own
        raise OSError(f"{error}") from error


def _array(tensor: dict[str, Any]) -> NDArray[Any]:
    dtypes = {"F32": np.float32, "I8": np.int8, "U8": np.uint8, "U16": np.uint16}
    return np.frombuffer(tensor["data"], dtypes[tensor["dtype"]]).reshape(tensor["shape"])


@dataclasses.dataclass(frozen=True)
class Tensors:
    """The arrays of a file, by name."""

    arrays: dict[str, NDArray[Any]]

    def table(self, name: str) -> Floats:
        """A table `[rows, width]`, or the matrix of a layer `[out, in]`."""
        return self.arrays[name].astype(np.float32) * self.arrays[f"{name}.scale"]

    def linear(self, name: str) -> tuple[Floats, Floats]:
        """Matrix `[in, out]` and bias."""
        return np.ascontiguousarray(self.table(f"{name}.weight").T), self.arrays[f"{name}.bias"]

    def norm(self, name: str) -> tuple[Floats, Floats]:
        """Scale and shift of a layer norm `[H]`."""
        return self.arrays[f"{name}.weight"], self.arrays[f"{name}.bias"]

    def embedding(self, net: str) -> Embedding:
        """The tables of a network of `learned_v1`. Raises `ValueError` where they do not fit the features."""
        word, *others = (self.table(f"{net}.{part}") for part in ("word", "suffix", "shape", "gap"))
        rows = _word_rows_in_use(self.arrays["word.check"])
        word_VE = np.zeros((len(rows), word.shape[1]), np.float32)
        word_VE[rows] = word  # fails where they do not fit
        found = Embedding(word_VE, others[0], others[1], others[2])
        if (len(found.shape_E), len(found.gap_E)) != (NUM_SHAPES, NUM_GAPS):
            raise ValueError(f"the embeddings of {net} do not fit the features")
        return found

    def count(self, prefix: str) -> int:
        """Number of layers `prefix0`, `prefix1`, ..."""
        names = {name.split(".")[1] for name in self.arrays if name.startswith(prefix)}
        return len(names)

    def unpunctuated(self, product: Product = np.matmul) -> UnpunctuatedNet:
        """The network for unpunctuated text. Raises `ValueError` where it does not fit the padding of a batch."""
        convolutions = tuple(
            Convolution(self.norm(f"unmarked.norm{n}"), *self.linear(f"unmarked.convolution{n}"), product)
            for n in range(self.count("unmarked.convolution"))
        )
        if sum(convolution.reach for convolution in convolutions) > PADDING:
            raise ValueError("the convolutions reach over the padding between texts")
        return UnpunctuatedNet(
            self.embedding("unmarked"),
            self.linear("unmarked.inner"),
            convolutions,
            self.norm("unmarked.norm"),
            self.linear("unmarked.outer"),
            product,
        )


def _word_rows_in_use(check_V: NDArray[np.uint16]) -> NDArray[np.bool_]:
    """Stored rows of a word table: those of non-empty buckets."""
    return np.concatenate([np.ones(FIRST_WORD, np.bool_), check_V > 0])


def _weights(tensors: Tensors, metadata: Mapping[str, str], digest: str) -> Weights:
    layers = tuple(tensors.linear(f"marked.layer{n}") for n in range(tensors.count("marked.layer")))
    punctuated = PunctuatedNet(
        tensors.embedding("marked"), layers, int(metadata["before"]), int(metadata["after"])
    )
    window = (punctuated.before + punctuated.after) * punctuated.embedding.width
    if (
        not layers
        or len(layers[0][0]) != window + NUM_DENSITIES
        or max(punctuated.before, punctuated.after) > PADDING
    ):
        raise ValueError("the layers do not fit the window")
    unpunctuated = tensors.unpunctuated()
    check_V = tensors.arrays["word.check"]
    return Weights(check_V, punctuated, unpunctuated, float(metadata["unmarked_shift"]), digest)


def save_weights(path: Path, tensors: Mapping[str, NDArray[Any]], metadata: Mapping[str, str]) -> None:
    """Write the weights of `learned_v1`: rows of word tables without a word are left out."""
    used = {
        name: values[_word_rows_in_use(tensors["word.check"])] if name.endswith(".word") else values
        for name, values in tensors.items()
    }
    write_weights(path, used, metadata, WEIGHTS_FORMAT_VERSION)


def write_weights(
    path: Path, tensors: Mapping[str, NDArray[Any]], metadata: Mapping[str, str], version: int
) -> None:
    """Write tensors: tables and matrices as int8 with one scale per column (tables) or per row, the rest as they are.

    The header is written again with sorted keys, so that equal values give equal bytes.
    """
    from safetensors.numpy import save

    stored: dict[str, NDArray[Any]] = {}
    for name, values in tensors.items():
        if values.ndim == 2:
            axis = 1 if name.endswith(".weight") else 0
            peak = np.abs(values).max(axis=axis, keepdims=True)
            scale = np.maximum(peak, 1e-8).astype(np.float32) / 127
            stored[name] = np.round(values / scale).astype(np.int8)
            stored[f"{name}.scale"] = scale
        else:
            stored[name] = values
    data = save(stored, metadata={"format_version": str(version), **metadata})
    size = int.from_bytes(data[:8], "little")
    header = json.dumps(json.loads(data[8 : 8 + size]), sort_keys=True, separators=(",", ":")).encode()
    header += b" " * (-len(header) % 8)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(len(header).to_bytes(8, "little") + header + data[8 + size :])
