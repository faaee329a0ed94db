"""Segment any Text (SaT, arXiv 2406.16678), if its package and a model are installed."""

import dataclasses
import functools
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from segmenters.characters import Kind, kinds
from segmenters.contract import Ends, Segmenter, SegmenterError


@dataclasses.dataclass(frozen=True)
class WtpsplitSat(Segmenter):
    """Splits where a SaT model of the package wtpsplit predicts a boundary. Slow without a GPU."""

    name: ClassVar[str] = "wtpsplit_v1"

    model: str = "sat-3l-sm"
    """Folder of a SaT model, or its name on the model hub or in its cache."""
    threshold: float = 0.25
    """Least probability of a boundary after a character."""

    def __post_init__(self) -> None:
        _model(self.model)

    def split(self, texts: list[str]) -> list[Ends]:
        """See `Segmenter.split`."""
        full = [text for text in texts if text.strip()]
        probabilities = iter(_model(self.model).predict_proba(full)) if full else iter(())
        return [self._ends(text, next(probabilities) if text.strip() else ()) for text in texts]

    def _ends(self, text: str, probability_N: Any) -> Ends:
        end_M = np.flatnonzero(np.asarray(probability_N, np.float32) > self.threshold) + 1
        # White space belongs to the sentence before it.
        solid_N = np.append(np.flatnonzero(kinds(text) > Kind.BREAK), len(text))
        start_M = solid_N[np.searchsorted(solid_N, end_M)]
        return np.unique(np.append(start_M, len(text))) if text else np.empty(0, np.int64)


@functools.lru_cache(maxsize=2)
def _model(name: str) -> Any:
    try:
        from wtpsplit import SaT
    except ImportError as error:
        raise SegmenterError(
            f"wtpsplit_v1 needs the package wtpsplit (pip install wtpsplit): {error}"
        ) from error
    try:
        return SaT(name)
    except Exception as error:  # of the hub, of the model's files, of the network
        known = "the folder is there" if Path(name).is_dir() else "there is no such folder"
        raise SegmenterError(f"wtpsplit_v1: cannot load the model {name!r} ({known}): {error}") from error
