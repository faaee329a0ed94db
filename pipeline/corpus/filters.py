"""Optional steps that drop documents: by length, by language, or because they repeat an earlier one.

A filter judges one document by itself. A deduplicator looks at all: a first pass makes a short signature of each
document, one decision over all signatures, in the order of the corpus, says which are repetitions (the first
stays), and only then are shards made. So what is dropped depends on the corpus alone, on no number of workers.
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
"""[documents, words] of a deduplicator, in the order of the corpus."""


class Filter(ABC):
    """Judges documents one at a time."""

    @abstractmethod
    def objection(self, text: str) -> str | None:
        """Why the document is dropped; None where it stays."""


class Deduplicator(ABC):
    """Finds documents whose text is that of an earlier one."""

    @abstractmethod
    def sign(self, text: str) -> NDArray[np.uint64]:
        """[words] what documents are compared by."""

    @abstractmethod
    def repeated(self, signatures: Signatures) -> NDArray[np.bool_]:
        """[documents] which repeat an earlier one."""


@dataclasses.dataclass(frozen=True)
class Length(Filter):
    """Drops documents of fewer or more characters."""

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
    """ISO 639-1 codes of those that stay."""
    characters: int = 2000
    """Looked at, from the start of a document."""

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
    """Documents of the same text, but for white space at its ends. 16 bytes of memory a document."""

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
    """Documents that share most runs of words: MinHash of `datasketch`, banded (arXiv 2107.06499, appendix A).

    Two documents are alike where all minima of a band are equal, so of similarity s with probability
    1 - (1 - s^rows)^bands: with 14 bands of 8 rows 0.92 at 0.8, 0.56 at 0.7, 0.21 at 0.6. Of documents that are
    alike, directly or through others, the first stays. Memory: 8 bytes a band and document, 112 by default, and
    twice as much again while it decides.
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
"""By the name in `data.filters`."""


def build_filters(configs: Sequence[FilterConfig]) -> dict[str, Filter | Deduplicator]:
    """The filters, in their order. Raises `ConfigError` for a wrong option, or a package that is missing."""
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
