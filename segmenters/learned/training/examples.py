"""Labelled texts on which the learned segmenter is trained, and how they are read from files."""

import contextlib
import dataclasses
import gzip
import itertools
import json
import re
import zlib
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import IO, Any, cast

from segmenters.conllu import read_conllu
from segmenters.contract import SegmenterError
from segmenters.punctuation import Punctuation
from segmenters.scoring import LabelledText


@dataclasses.dataclass(frozen=True)
class Example(LabelledText):
    """A labelled text with its settings in training."""

    weight: float = 1.0
    """Weight of its candidates in the training loss."""
    word_dropout: float = 0.0
    """Share of its words that are replaced by the unknown word, as in a language without known words."""


def rebuilt(
    example: Example, pieces: Iterable[tuple[str, bool]], word_dropout: float | None = None
) -> Example:
    """An example from pieces of text, each with a flag whether a sentence ends after it."""
    parts: list[str] = []
    ends: list[int] = []
    size = 0
    for piece, is_end in pieces:
        parts.append(piece)
        size += len(piece)
        if is_end and size and (not ends or ends[-1] < size):
            ends.append(size)
    dropout = example.word_dropout if word_dropout is None else word_dropout
    return Example("".join(parts), tuple(ends), example.weight, dropout)


def sentences(example: Example) -> list[str]:
    """The sentences, each with the white space before it."""
    return [example.text[a:b] for a, b in zip((0, *example.ends), example.ends, strict=False)]


def pieces(example: Example, size: int = 2500) -> list[Example]:
    """The example cut at ends of sentences into parts of about `size` characters."""
    parts: list[Example] = []
    start, inside = 0, list[int]()
    for end in example.ends:
        inside.append(end)
        if end - start >= size or end == example.ends[-1]:
            text = example.text[start:end]
            lead = len(text) - len(text.lstrip()) if parts else 0
            parts.append(
                dataclasses.replace(
                    example,
                    text=text[lead:],
                    ends=tuple(one - start - lead for one in inside if one - start > lead),
                )
            )
            start, inside = end, []
    return [part for part in parts if part.text.strip()]


# ---- reading


def read_gold(path: Path) -> Iterator[Example]:
    """Examples from JSONL with `text` and `ends`, or from CoNLL-U; gzip or plain.

    Raises `SegmenterError` that names the file, and the line of a mistake.
    """
    if ".conllu" in path.suffixes:
        with _opened(path) as lines:
            for found in read_conllu(lines):
                if found.ends:
                    yield Example(found.text, tuple(found.ends))
        return
    for where, document in _documents(path):
        text, ends = document.get("text"), document.get("ends")
        if (
            not isinstance(text, str)
            or not isinstance(ends, list)
            or not all(isinstance(end, int) for end in ends)
        ):
            raise SegmenterError(f"{where}: gold boundaries need `text` and `ends`, a list of whole numbers")
        if any(a >= b for a, b in itertools.pairwise([0, *ends])) or (ends and ends[-1] > len(text)):
            raise SegmenterError(f"{where}: `ends` must increase, from above 0 up to the length of the text")
        yield Example(text, tuple(ends))


def language_of(path: Path) -> str:
    """The `lang` of the first document of JSONL; the name of the file where there is none."""
    if ".conllu" not in path.suffixes:
        for _, document in _documents(path):
            if isinstance(document.get("lang"), str):
                return str(document["lang"])
            break
    return path.name


def read_raw(path: Path) -> Iterator[Example]:
    """Examples from the `text` of JSONL: its lines of prose, with the ends that `punctuation_v1` finds in them.

    Raises `SegmenterError` for a line without `text`.
    """
    rule = Punctuation()
    for where, document in _documents(path):
        if not isinstance(document.get("text"), str):
            raise SegmenterError(f"{where}: raw text needs `text`")
        text = "\n".join(prose_lines(document["text"]))
        if text:
            yield Example(text, tuple(rule.split([text])[0].tolist()))


def read_texts(path: Path, most: int) -> Iterator[str]:
    """The `text` of the documents of JSONL, up to `most` characters or somewhat more.

    Raises `SegmenterError` for a line without `text`.
    """
    size = 0
    for where, document in _documents(path):
        if not isinstance(document.get("text"), str):
            raise SegmenterError(f"{where}: raw text needs `text`")
        yield document["text"]
        size += len(document["text"])
        if size > most:
            return


_PROSE = re.compile(
    r"[^\W\d_\s\"'“‘(][^|{}=<>`\\/_*#]*[.!?。！？:：][\"'”’)]*|[\"“‘'][^|{}=<>`\\/_*#]*[.!?。！？][\"'”’)]*"
)
_WRAPPED_LINE = range(50, 90)
"""Line lengths, in characters, of a hard-wrapped paragraph."""


def prose_lines(text: str) -> list[str]:
    """The paragraphs of running text, one per line: without code, tables or markup, and with final punctuation."""
    lines: list[str] = []
    for paragraph in re.split(r"\n\s*\n", text):
        part = paragraph.split("\n")
        wrapped = len(part) > 1 and all(len(line) in _WRAPPED_LINE and line[:1].strip() for line in part[:-1])
        lines += [" ".join(part)] if wrapped else part
    return [line for line in lines if len(line) > 40 and _PROSE.fullmatch(line.rstrip())]


def _documents(path: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    with _opened(path) as lines:
        for number, line in enumerate(lines, 1):
            try:
                document = json.loads(line)
            except (ValueError, RecursionError) as error:
                raise SegmenterError(f"{path}:{number}: not JSON: {error}") from error
            if not isinstance(document, dict):
                raise SegmenterError(f"{path}:{number}: not a document")
            yield f"{path}:{number}", document


@contextlib.contextmanager
def _opened(path: Path) -> Iterator[IO[str]]:
    try:
        opener = gzip.open if path.suffix == ".gz" else open
        with opener(path, "rt", encoding="utf-8") as lines:
            yield cast("IO[str]", lines)
    except (OSError, EOFError, zlib.error) as error:
        raise SegmenterError(f"cannot read {path}: {getattr(error, 'strerror', None) or error}") from error
    except UnicodeDecodeError as error:
        raise SegmenterError(f"{path}: not UTF-8: {error}") from error
