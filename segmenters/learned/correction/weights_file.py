"""The weights file of `learned_v2`: the tables and layers that correct the rule, and the network for unmarked text."""

import dataclasses
import functools
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from segmenters.learned.correction.ideographs import GRAMS, IdeographNet
from segmenters.learned.correction.languages import WORDS_OF_LANGUAGE, Languages
from segmenters.learned.correction.network import CorrectionNet, Statistics, Vocabulary
from segmenters.learned.correction.places import FEATURES_OF_EARLIER, WORDS
from segmenters.learned.correction.unmarked import Unmarked
from segmenters.learned.networks import FIRST_WORD, exact_product
from segmenters.learned.weights_file import Tensors, WeightsFile, read_weights, write_weights

WEIGHTS_FORMAT_VERSION = 3
"""Raised when the meaning of the features or of a tensor changes; 2 is that of `learned_v1`."""
SHIPPED_WEIGHTS = Path(__file__).parent.parent / "weights" / "learned_v2.safetensors"
NUM_MARGINS, NUM_MARGINS_OF_EARLIER = 3, 6


@dataclasses.dataclass(frozen=True)
class CorrectionWeights:
    """The networks of `learned_v2`."""

    correction: CorrectionNet
    unmarked: Unmarked
    digest: str
    """SHA-256 of the file."""


@functools.lru_cache(maxsize=4)
def load_weights(path: str | Path) -> CorrectionWeights:
    """Weights from a file or URL. Raises `SegmenterError` for one that is missing, damaged or of another version."""
    return read_weights(path, WEIGHTS_FORMAT_VERSION, _weights)


def _weights(file: WeightsFile) -> CorrectionWeights:
    tensors, arrays = Tensors(file.arrays), file.arrays
    checks = tuple(arrays[f"words.check{number}"] for number in range(len(WORDS)))
    num_features = int(file.metadata.get("features", FEATURES_OF_EARLIER))
    vocabulary = Vocabulary(
        Statistics(arrays["statistics.check"], arrays["statistics.step"]), checks, num_features
    )
    used = _rows_in_use(vocabulary)
    stored = tensors.table("correction.table")
    table_RH = np.zeros((len(used), stored.shape[1]), np.float32)
    table_RH[used] = stored  # fails where they do not fit
    languages = _languages(arrays)
    margins = tuple(map(float, file.metadata["margins"].split()))
    if (
        len(margins) != (NUM_MARGINS if languages else NUM_MARGINS_OF_EARLIER)
        or len(vocabulary.statistics.step_V) != len(vocabulary.statistics.check_V) + 1
    ):
        raise ValueError("the margins or the statistics do not fit")
    correction = CorrectionNet(
        vocabulary,
        table_RH,
        arrays["correction.bias"],
        tensors.linear("correction.inner"),
        tensors.linear("correction.outer"),
        margins,
        languages,
    )
    unmarked = Unmarked(
        arrays["word.check"],
        tensors.unpunctuated(exact_product),
        float(file.metadata["unmarked_shift"]),
        _ideographs(tensors, file.metadata) if "ideographs_shift" in file.metadata else None,
    )
    return CorrectionWeights(correction, unmarked, file.digest)


def _languages(arrays: Mapping[str, NDArray[Any]]) -> Languages | None:
    if "languages.share" not in arrays:
        return None
    of_words = tuple(arrays[f"languages.word{number}"] for number in range(WORDS_OF_LANGUAGE))
    return Languages(of_words, arrays["languages.share"])


def _ideographs(tensors: Tensors, metadata: Mapping[str, str]) -> IdeographNet:
    checks = tuple(tensors.arrays[f"ideographs.check{number}"] for number in range(GRAMS))
    tables = []
    for number, check_V in enumerate(checks):
        used = np.append(np.ones(FIRST_WORD, np.bool_), check_V > 0)
        stored = tensors.table(f"ideographs.table{number}")
        table_VE = np.zeros((len(used), stored.shape[1]), np.float32)
        table_VE[used] = stored  # fails where they do not fit
        tables.append(table_VE)
    layers = tuple(tensors.linear(f"ideographs.layer{number}") for number in range(3))
    return IdeographNet(checks, tuple(tables), layers, float(metadata["ideographs_shift"]))


def _rows_in_use(vocabulary: Vocabulary) -> NDArray[np.bool_]:
    """Stored rows of the table: those of the features, and of words those of non-empty buckets."""
    parts = [np.ones(vocabulary.first_word, np.bool_)]
    for check_V in vocabulary.checks:
        parts += [np.ones(1, np.bool_), check_V > 0]
    return np.concatenate(parts)


def save_weights(
    path: Path, vocabulary: Vocabulary, tensors: Mapping[str, NDArray[Any]], metadata: Mapping[str, str]
) -> None:
    """Write the vocabulary and the tensors of both networks; rows of the table without a word are left out."""
    words: dict[str, NDArray[Any]] = {
        f"words.check{number}": check_V for number, check_V in enumerate(vocabulary.checks)
    }
    statistics: dict[str, NDArray[Any]] = {
        "statistics.check": vocabulary.statistics.check_V,
        "statistics.step": vocabulary.statistics.step_V,
    }
    stored: dict[str, NDArray[Any]] = {**tensors, **words, **statistics}
    stored["correction.table"] = stored["correction.table"][_rows_in_use(vocabulary)]
    for name, values in tensors.items():
        if name.startswith("unmarked.") and name.endswith(".word"):
            used = np.concatenate(
                [np.ones(len(values) - len(tensors["word.check"]), np.bool_), tensors["word.check"] > 0]
            )
            stored[name] = values[used]
    for number in range(GRAMS):
        if (name := f"ideographs.table{number}") in tensors:
            used = np.append(np.ones(FIRST_WORD, np.bool_), tensors[f"ideographs.check{number}"] > 0)
            stored[name] = tensors[name][used]
    write_weights(path, stored, metadata, WEIGHTS_FORMAT_VERSION)
