"""The contract that every segmenter fulfils."""

import dataclasses
from abc import ABC, abstractmethod
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

Ends = NDArray[np.int64]
"""End offsets of the sentences of one text: characters, exclusive, strictly increasing, the last `len(text)`."""


class SegmenterError(Exception):
    """A segmenter cannot be built or used; the message has the reason and the remedy."""


@dataclasses.dataclass(frozen=True)
class Segmenter(ABC):
    """A frozen dataclass of its options. Subclasses are `@dataclass(frozen=True)` and set `name`.

    `name` ends in `_vN`; N increases with each change that may split a text differently.
    """

    name: ClassVar[str]

    @abstractmethod
    def split(self, texts: list[str]) -> list[Ends]:
        """For each text the ends of its sentences (see `Ends`); an empty text has none.

        So `"".join(sentences) == text`. White space belongs to the sentence before it.
        """

    @property
    def weights_digest(self) -> str | None:
        """SHA-256 (hex) of the weights, for a segmenter that has some."""
        return None

    def fingerprint(self) -> dict[str, Any]:
        """Name, options and digest of the weights. Segmenters with equal fingerprints split equally."""
        return {
            "name": self.name,
            "options": dataclasses.asdict(self),
            "weights": self.weights_digest,
        }


def check_ends(text: str, ends: Ends) -> None:
    """Raise `SegmenterError` unless `ends` fulfils the contract for `text`."""
    if len(text) == 0:
        kept = len(ends) == 0
    else:
        kept = len(ends) > 0 and ends[0] > 0 and ends[-1] == len(text) and bool(np.all(np.diff(ends) > 0))
    if not kept:
        raise SegmenterError(
            f"a segmenter broke its contract on a text of {len(text)} characters: ends must be strictly "
            f"increasing, start above 0 and end with {len(text)}; got {ends[:5].tolist()}...{ends[-2:].tolist()}"
        )
