"""Splitters of other packages as segmenters, for `sllm bench segmenters` (`pip install 'sllm[bench]'`)."""

import dataclasses
import functools
import re
from collections.abc import Callable, Iterable
from typing import Any, ClassVar

import numpy as np

from segmenters import Segmenter, SegmenterError
from segmenters.contract import Ends

_LONE_SURROGATES = re.compile("[\ud800-\udfff]")


@dataclasses.dataclass(frozen=True)
class Peer(Segmenter):
    """A splitter of another package; the ends are found by searching its sentences in the text."""

    name: ClassVar[str] = "peer_v1"

    package: str
    """One of `PEERS`."""

    def split(self, texts: list[str]) -> list[Ends]:
        """See `Segmenter.split`. Line breaks end a sentence where the package allows it."""
        sentences_of = _loaded(self.package)
        return [_ends_of(text, sentences_of(_LONE_SURROGATES.sub("\ufffd", text))) for text in texts]


def _ends_of(text: str, sentences: Iterable[str]) -> Ends:
    """Ends of sentences that appear in the text in this order, up to white space at their edges."""
    ends, position = list[int](), 0
    for sentence in sentences:
        found = text.find(sentence.strip(), position)
        if found >= 0:
            position = found + len(sentence.strip())
            ends.append(position)
    return np.unique(np.array([*(end for end in ends if end > 0), len(text)] if text else [], np.int64))


def _pysbd() -> Callable[[str], Iterable[str]]:
    import pysbd

    segmenter = pysbd.Segmenter(language="en", clean=False)
    return lambda text: segmenter.segment(text)


def _punkt() -> Callable[[str], Iterable[str]]:
    from nltk.tokenize.punkt import PunktSentenceTokenizer

    tokenizer = PunktSentenceTokenizer()
    # Punkt ignores line breaks, so each line is split by itself, as is common.
    return lambda text: (one for line in text.split("\n") for one in tokenizer.tokenize(line))


def _blingfire() -> Callable[[str], Iterable[str]]:
    import blingfire

    return lambda text: (
        one for line in text.split("\n") for one in blingfire.text_to_sentences(line).split("\n")
    )


def _sentencex() -> Callable[[str], Iterable[str]]:
    import sentencex

    return lambda text: (one for line in text.split("\n") for one in sentencex.segment("en", line))


PEERS: dict[str, Callable[[], Callable[[str], Iterable[str]]]] = {
    "pysbd": _pysbd,
    "punkt": _punkt,
    "blingfire": _blingfire,
    "sentencex": _sentencex,
}
"""By name: a function that loads the package and returns a function from a text to its sentences."""


@functools.cache
def _loaded(package: str) -> Any:
    try:
        return PEERS[package]()
    except (ImportError, OSError, RuntimeError) as error:
        raise SegmenterError(f"{package} cannot be used ({error}); pip install 'sllm[bench]'") from error
