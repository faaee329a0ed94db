"""Splitters of other packages as segmenters, for `sllm bench segmenters` (`pip install 'sllm[bench]'`)."""

import dataclasses
import functools
import re
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

import segmenters
from pipeline.corpus.document_lines import read_documents
from segmenters import Segmenter, SegmenterError
from segmenters.contract import Ends

_PUNKT_CHARACTERS = 2_000_000
"""Characters of raw text on which Punkt is trained."""
_LONE_SURROGATES = re.compile("[\ud800-\udfff]")


@dataclasses.dataclass(frozen=True)
class Peer(Segmenter):
    """A splitter of another package; the ends are found by searching its sentences in the text."""

    name: ClassVar[str] = "peer_v1"

    package: str
    """One of `PEERS`."""
    language: str = "en"
    """Code of the language of the texts, for the packages that take one; English if a package does not know it."""
    raw_text: str | None = None
    """File with raw text of the language, on which Punkt is trained first; none: untrained."""

    def split(self, texts: list[str]) -> list[Ends]:
        """See `Segmenter.split`. Line breaks end a sentence where the package allows it."""
        sentences_of = _loaded(self.package, self.language, self.raw_text)
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


Sentences = Callable[[str], Iterable[str]]


def _pysbd(language: str, raw_text: str | None) -> Sentences:
    import pysbd
    from pysbd.languages import LANGUAGE_CODES

    segmenter = pysbd.Segmenter(language=language if language in LANGUAGE_CODES else "en", clean=False)
    return lambda text: segmenter.segment(text)


def _punkt(language: str, raw_text: str | None) -> Sentences:
    from nltk.tokenize.punkt import PunktSentenceTokenizer, PunktTrainer

    tokenizer = PunktSentenceTokenizer()
    if raw_text is not None:
        trainer = PunktTrainer()
        for text in _first_texts(Path(raw_text)):
            trainer.train(text, finalize=False)
        trainer.finalize_training()
        tokenizer = PunktSentenceTokenizer(trainer.get_params())
    # Punkt ignores line breaks, so each line is split by itself, as is common.
    return lambda text: (one for line in text.split("\n") for one in tokenizer.tokenize(line))


def _first_texts(path: Path) -> Iterator[str]:
    size = 0
    for _, text in read_documents(path):
        yield text
        size += len(text)
        if size > _PUNKT_CHARACTERS:
            return


def _blingfire(language: str, raw_text: str | None) -> Sentences:
    import blingfire

    return lambda text: (
        one for line in text.split("\n") for one in blingfire.text_to_sentences(line).split("\n")
    )


def _sentencex(language: str, raw_text: str | None) -> Sentences:
    import sentencex

    return lambda text: (one for line in text.split("\n") for one in sentencex.segment(language, line))


def _spacy_senter(language: str, raw_text: str | None) -> Sentences:
    import spacy

    names = sorted(name for name in spacy.util.get_installed_models() if name.startswith(f"{language}_"))
    if not names:
        raise ImportError(f"no spaCy pipeline of the language {language!r} is installed")
    segmenter = segmenters.load("spacy_v1", pipeline=names[0], component="senter")

    def sentences_of(text: str) -> Iterable[str]:
        ends = segmenter.split([text])[0].tolist()
        return (text[a:b] for a, b in zip([0, *ends], ends, strict=False))

    return sentences_of


PEERS: dict[str, Callable[[str, str | None], Sentences]] = {
    "pysbd": _pysbd,
    "punkt": _punkt,
    "blingfire": _blingfire,
    "sentencex": _sentencex,
    "spacy_senter": _spacy_senter,
}
"""By name: a function that loads the package for a language and returns a function from a text to its sentences."""


@functools.lru_cache(maxsize=64)
def _loaded(package: str, language: str, raw_text: str | None) -> Any:
    try:
        return PEERS[package](language, raw_text)
    except (ImportError, OSError, RuntimeError) as error:
        raise SegmenterError(f"{package} cannot be used ({error}); pip install 'sllm[bench]'") from error
