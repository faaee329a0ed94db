"""Optional steps that drop documents: by length, by language, or because they repeat an earlier one.

A filter decides on each document by itself. A deduplicator compares all documents: a first pass makes a short signature
of each, and one decision over all signatures, in the order of the corpus, marks the repetitions (the first one stays).
Then shards are made. So the dropped documents do not depend on the number of workers.
"""

import dataclasses
import functools
import hashlib
import inspect
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydantic import TypeAdapter, ValidationError

from pipeline.config import FilterConfig
from pipeline.errors import ConfigError

Signatures = NDArray[np.uint64]
"""[documents, words] signatures of a deduplicator, in the order of the corpus."""


class Filter(ABC):
    """Decides on documents one at a time."""

    @abstractmethod
    def objection(self, text: str) -> str | None:
        """The reason to drop the document; None to keep it."""


class Deduplicator(ABC):
    """Finds documents that repeat an earlier one."""

    @abstractmethod
    def sign(self, text: str) -> NDArray[np.uint64]:
        """Signature by which documents are compared, in the shape (words,)."""

    @abstractmethod
    def repeated(self, signatures: Signatures) -> NDArray[np.bool_]:
        """[documents] whether each repeats an earlier one."""


@dataclasses.dataclass(frozen=True)
class Length(Filter):
    """Drops documents with too few or too many characters."""

    min_characters: int = 0
    max_characters: int | None = None

    def objection(self, text: str) -> str | None:
        """See `Filter`."""
        if len(text) < self.min_characters:
            return f"{len(text)} characters, fewer than {self.min_characters}"
        if self.max_characters is not None and len(text) > self.max_characters:
            return f"{len(text)} characters, more than {self.max_characters}"
        return None


@dataclasses.dataclass(frozen=True)
class Language(Filter):
    """Keeps documents in some languages, as `py3langid` classifies them (97 languages, by the first characters)."""

    languages: Sequence[str]
    """ISO 639-1 codes of the languages to keep."""
    characters: int = 2000
    """Characters that are classified, from the start of a document."""

    def __post_init__(self) -> None:
        available = set(_language_identifier().labels)
        unknown = sorted(set(self.languages) - available)
        if unknown or not self.languages:
            raise ConfigError(f"the language filter has {', '.join(sorted(available))}; not {unknown}")

    def objection(self, text: str) -> str | None:
        """See `Filter`."""
        language = str(_language_identifier().classify(text[: self.characters])[0])
        return None if language in self.languages else f"its language seems to be {language}"


@dataclasses.dataclass(frozen=True)
class ExactDuplicates(Deduplicator):
    """Drops documents whose text equals an earlier one, except white space at its ends. Memory: 16 bytes per
    document."""

    def sign(self, text: str) -> NDArray[np.uint64]:
        """See `Deduplicator`."""
        return np.frombuffer(hashlib.blake2b(text.strip().encode(), digest_size=16).digest(), "<u8")

    def repeated(self, signatures: Signatures) -> NDArray[np.bool_]:
        """See `Deduplicator`."""
        _, first = np.unique(signatures, axis=0, return_index=True)
        repeated = np.ones(len(signatures), bool)
        repeated[first] = False
        return repeated


@dataclasses.dataclass(frozen=True)
class NearDuplicates(Deduplicator):
    """Drops documents that share most word n-grams with an earlier one: MinHash of `datasketch` in bands (arXiv
    2107.06499, appendix A).

    Two documents are similar if all minima of a band are equal; at similarity s the probability is 1 - (1 -
    s^rows)^bands: with 14 bands of 8 rows 0.92 at 0.8, 0.56 at 0.7, 0.21 at 0.6. Of documents that are similar,
    directly or through others, the first stays. Memory: 8 bytes per band and document (112 per document by default),
    and twice as much more during the decision.
    """

    bands: int = 14
    rows: int = 8
    shingle_words: int = 5

    def sign(self, text: str) -> NDArray[np.uint64]:
        """See `Deduplicator`."""
        words = text.split()
        size = min(self.shingle_words, max(1, len(words)))
        shingles = {" ".join(words[i : i + size]).encode() for i in range(len(words) - size + 1)}
        minhash = _datasketch().MinHash(num_perm=self.bands * self.rows, seed=1, scheme="affine32")
        minhash.update_batch(sorted(shingles))
        bands = np.asarray(minhash.hashvalues, np.uint64).reshape(self.bands, self.rows)
        digests = (
            hashlib.blake2b(bytes([number]) + band.astype("<u8").tobytes(), digest_size=8).digest()
            for number, band in enumerate(bands)
        )
        return np.frombuffer(b"".join(digests), "<u8")

    def repeated(self, signatures: Signatures) -> NDArray[np.bool_]:
        """See `Deduplicator`."""
        # Each document takes the smallest number among those it shares a band with, until nothing changes.
        smallest = np.arange(len(signatures))
        groups = [np.unique(band, return_inverse=True)[1] for band in signatures.T]
        while True:
            before = smallest
            for group in groups:
                of_group = np.full(len(signatures), len(signatures))
                np.minimum.at(of_group, group, smallest)
                smallest = of_group[group]
            smallest = smallest[smallest]
            if np.array_equal(before, smallest):
                return smallest != np.arange(len(signatures))


FILTERS: dict[str, Callable[..., Filter | Deduplicator]] = {
    "length": Length,
    "language": Language,
    "exact_duplicates": ExactDuplicates,
    "near_duplicates": NearDuplicates,
}
"""Filters by their name in `data.filters`."""


def build_filters(configs: Sequence[FilterConfig]) -> dict[str, Filter | Deduplicator]:
    """The filters, in order. Raises `ConfigError` for a wrong option or a missing package."""
    built: dict[str, Filter | Deduplicator] = {}
    for config in configs:
        kind: Any = FILTERS[config.name]
        unknown = [key for key in config.options if key not in inspect.signature(kind).parameters]
        if config.name in built:
            raise ConfigError(f"data.filters: {config.name} is named twice: write all its options in one")
        try:
            if unknown:
                raise TypeError(f"it has no option {unknown[0]!r}")
            built[config.name] = TypeAdapter(kind).validate_python(config.options)
            if isinstance(built[config.name], NearDuplicates):
                _datasketch()
        except ValidationError as error:
            first = error.errors()[0]
            key = ".".join(map(str, first["loc"]))
            raise ConfigError(f"data.filters: {config.name}, option {key}: {first['msg']}") from error
        except TypeError as error:
            raise ConfigError(f"data.filters: {config.name} does not take these options: {error}") from error
        except ImportError as error:
            raise ConfigError(
                f"data.filters: {config.name} needs a package ({error}); pip install 'sllm[filters]'"
            ) from error
    return built


def _datasketch() -> Any:
    import datasketch

    return datasketch


@functools.cache
def _language_identifier() -> Any:
    from py3langid.langid import MODEL_FILE, LanguageIdentifier

    return LanguageIdentifier.from_model_file(MODEL_FILE)
