"""Any spaCy pipeline as a segmenter: its parser, senter or sentencizer."""

import dataclasses
import functools
import itertools
import re
from typing import Any, ClassVar

import numpy as np

from segmenters.contract import Ends, Segmenter, SegmenterError

_LANGUAGE_CODE = re.compile(r"[a-z]{2,3}")
_SPLITTERS = ("parser", "senter", "sentencizer")
_FEEDERS = ("tok2vec", "transformer", "curated_transformer")
_LONG_WORD = re.compile(r"(?<!\S)\S{1000}")
"""Longest word, in characters, for spaCy's tokenizer, whose time is quadratic in it; a text with a longer word is split
in short windows."""
_SHORT_WINDOW = 2000
_LONE_SURROGATES = re.compile("[\ud800-\udfff]")


@dataclasses.dataclass(frozen=True)
class SpacyPipeline(Segmenter):
    """Splits where a spaCy pipeline starts a sentence. Only the components needed for that are run.

    spaCy's tokenizer takes time quadratic in a run of quotes or brackets without white space. A text with a word over
    1,000 characters is therefore given to it in windows of 2,000 characters: time is linear, but long for such text (a
    window of quotes alone took 0.3 s of CPU time, a window of letters 0.001 s).
    """

    name: ClassVar[str] = "spacy_v1"

    pipeline: str = "xx"
    """A language code (`xx` is spaCy's multi-language one) for a blank pipeline with the sentencizer, or the
    name or folder of an installed pipeline."""
    component: str | None = None
    """`parser`, `senter` or `sentencizer`; none: the first of these that the pipeline has."""
    batch_size: int = 256
    """Batch size of `nlp.pipe`, in texts."""

    def __post_init__(self) -> None:
        _pipeline(self.pipeline, self.component)

    def split(self, texts: list[str]) -> list[Ends]:
        """See `Segmenter.split`. A text over `nlp.max_length` is split in windows."""
        nlp = _pipeline(self.pipeline, self.component)
        safe = [_LONE_SURROGATES.sub("\ufffd", text) for text in texts]  # spaCy stores UTF-8
        windows = [_SHORT_WINDOW if _LONG_WORD.search(text) else nlp.max_length for text in safe]
        fits = [len(text) <= window for text, window in zip(safe, windows, strict=True)]
        whole = iter(nlp.pipe(itertools.compress(safe, fits), batch_size=self.batch_size))
        return [
            _ends(next(whole)) if fit else _windowed(nlp, text, window)
            for text, window, fit in zip(safe, windows, fits, strict=True)
        ]

    def fingerprint(self) -> dict[str, Any]:
        """With the versions of spaCy and of the pipeline, on which the splits depend."""
        meta = _pipeline(self.pipeline, self.component).meta
        options = {"pipeline": self.pipeline, "component": self.component}
        version = {key: meta[key] for key in ("lang", "name", "version", "spacy_version")}
        return {**super().fingerprint(), "options": options, "pipeline": version}


@functools.lru_cache(maxsize=4)
def _pipeline(name: str, component: str | None) -> Any:
    try:
        import spacy
    except ImportError as error:
        raise SegmenterError(f"spacy_v1 needs spaCy: {error}; pip install spacy") from error
    if component is not None and component not in _SPLITTERS:
        raise SegmenterError(
            f"spacy_v1: component is {component!r}, but must be one of {', '.join(_SPLITTERS)}"
        )
    try:
        nlp = spacy.blank(name) if _LANGUAGE_CODE.fullmatch(name) else spacy.load(name)
    except (OSError, ImportError, ValueError) as error:
        raise SegmenterError(
            f"spacy_v1: there is no spaCy pipeline {name!r} here (a language code, an installed package or a "
            f"folder): {error}"
        ) from error
    if not nlp.component_names:
        nlp.add_pipe("sentencizer")
    chosen = component or next((one for one in _SPLITTERS if one in nlp.component_names), None)
    if chosen == "sentencizer" and chosen not in nlp.component_names:
        nlp.add_pipe(chosen, first=True)
    if chosen not in nlp.component_names:
        raise SegmenterError(
            f"spacy_v1: the pipeline {name!r} has no {chosen or 'component that splits'}; it has "
            f"{', '.join(nlp.component_names)}; use component=sentencizer"
        )
    needed = {chosen} if chosen == "sentencizer" else {chosen, *_FEEDERS}
    for other in set(nlp.component_names) - needed:
        nlp.remove_pipe(other)
    if chosen in nlp.disabled:
        nlp.enable_pipe(chosen)
    return nlp


def _ends(doc: Any) -> Ends:
    length = len(doc.text)
    starts = [token.idx for token in doc if token.is_sent_start]
    return np.array(
        [*(start for start in starts if 0 < start < length), *([length] if length else [])], np.int64
    )


def _windowed(nlp: Any, text: str, window: int) -> Ends:
    """Each window starts at the last end found in the previous one; a window without an end is a sentence."""
    ends: list[int] = []
    start = 0
    while start < len(text):
        piece = text[start : start + window]
        found = (start + _ends(nlp(piece))).tolist()
        is_last = start + len(piece) == len(text)
        ends += found if is_last or len(found) == 1 else found[:-1]
        start = ends[-1]
    return np.array(ends, np.int64)
