"""Text with known boundaries for the training of the learned segmenter, and the ways to make it harder."""

import contextlib
import dataclasses
import gzip
import itertools
import json
import random
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import IO, Any, cast

from segmenters.contract import SegmenterError
from segmenters.punctuation import Punctuation


@dataclasses.dataclass(frozen=True)
class Example:
    """A text with the ends of its sentences (characters, exclusive; white space between them is anyone's)."""

    text: str
    ends: tuple[int, ...]
    weight: float = 1.0
    """Of its places in the loss of a training."""
    hide_words: float = 0.0
    """Share of its words that the model must do without, as in a language that it does not know."""


SENTENCE_MARKS = frozenset(".!?。！？…;；:：,，\"'“”‘’")
_LETTERS = re.compile(r"[^\W\d_]+")


def rebuilt(example: Example, pieces: Iterable[tuple[str, bool]], hide_words: float | None = None) -> Example:
    """An example from pieces of text, each with whether a sentence ends behind it."""
    parts: list[str] = []
    ends: list[int] = []
    size = 0
    for piece, is_end in pieces:
        parts.append(piece)
        size += len(piece)
        if is_end and size and (not ends or ends[-1] < size):
            ends.append(size)
    hidden = example.hide_words if hide_words is None else hide_words
    return Example("".join(parts), tuple(ends), example.weight, hidden)


def sentences(example: Example) -> list[str]:
    """The sentences, each with the white space before it."""
    return [example.text[a:b] for a, b in zip((0, *example.ends), example.ends, strict=False)]


def stripped(example: Example, _rng: random.Random) -> Example:
    """Lower case, no sentence marks, no line breaks."""
    pieces = []
    for sentence in sentences(example):
        text = "".join(char for char in sentence.lower() if char not in SENTENCE_MARKS)
        pieces.append(
            (" ".join(["", *text.split()]) if sentence[:1].isspace() else " ".join(text.split()), True)
        )
    return rebuilt(example, pieces)


def lowered(example: Example, _rng: random.Random) -> Example:
    """Lower case; a few letters have longer forms, those stay."""
    return dataclasses.replace(example, text=_same_length(example.text, str.lower))


def raised(example: Example, _rng: random.Random) -> Example:
    """Upper case."""
    return dataclasses.replace(example, text=_same_length(example.text, str.upper))


def joined_lines(example: Example, _rng: random.Random) -> Example:
    """Line breaks become spaces."""
    return dataclasses.replace(example, text=example.text.replace("\n", " "))


def wrapped(example: Example, rng: random.Random) -> Example:
    """Paragraphs hard-wrapped at a width of the text's own; an empty line between them."""
    width = rng.randrange(56, 90)
    pieces: list[tuple[str, bool]] = []
    column = 0
    for sentence in sentences(example):
        if sentence.startswith("\n"):
            pieces.append(("\n\n", False))
            column = 0
        words = sentence.split()
        for index, word in enumerate(words):
            if column and column + 1 + len(word) > width:
                pieces.append(("\n", False))
                column = 0
            pieces.append((f" {word}" if column else word, index == len(words) - 1))
            column += len(word) + (column > 0)
    return rebuilt(example, pieces)


def without_marks(example: Example, rng: random.Random) -> Example:
    """Each sentence loses its last mark with a chance that is the text's own."""
    share = rng.random()
    pieces = [(_without_last_mark(one) if rng.random() < share else one, True) for one in sentences(example)]
    return rebuilt(example, pieces)


def foreign(example: Example, rng: random.Random) -> Example:
    """Words unknown, and many of them capitalised, as German does with nouns."""
    share = rng.choice((0.0, 0.0, 0.1, 0.3, 0.4))

    def capitalised(match: re.Match[str]) -> str:
        word = match.group()
        return word.capitalize() if len(word) > 3 and word.islower() and rng.random() < share else word

    text = _LETTERS.sub(capitalised, example.text)
    return dataclasses.replace(example, text=text, hide_words=rng.choice((0.5, 0.9, 1.0)))


_SCRIPTS: tuple[tuple[dict[str, str], dict[str, str]], ...] = (
    (dict(zip("abcdefghijklmnopqrstuvwxyz", "абцдефгхийклмнопкрстуввхуз", strict=True)), {}),
    (dict(zip("abcdefghijklmnopqrstuvwxyz", "αβψδεφγηιξκλμνοπχρστθωςχυζ", strict=True)), {"?": ";"}),
    (dict(zip("abcdefghijklmnopqrstuvwxyz", "अबचडएफगहइजकलमनओपकरसतउवशखयझ", strict=True)), {".": "।"}),
    (
        dict(zip("abcdefghijklmnopqrstuvwxyz", "ابجدهفغحيجكلمنوبقرستعوشخيز", strict=True)),
        {"?": "؟", ",": "،"},
    ),
    (
        dict(
            zip(
                "abcdefghijklmnopqrstuvwxyz",
                "가나다라마바사아자차카타파하거너더러머버서어저처커터",
                strict=True,
            )
        ),
        {},
    ),
)
_TERMINATOR_AT_END = re.compile(r"[.?,](?=\s|$)")


def other_script(example: Example, rng: random.Random) -> Example:
    """Latin letters become those of another script, marks too where it has its own; words unknown."""
    letters, marks = rng.choice(_SCRIPTS)
    table = str.maketrans({**letters, **{a.upper(): b.upper() for a, b in letters.items()}})
    text = _TERMINATOR_AT_END.sub(lambda match: marks.get(match.group(), match.group()), example.text)
    return dataclasses.replace(
        example, text=_same_length(text, lambda part: part.translate(table)), hide_words=1.0
    )


def _without_last_mark(sentence: str) -> str:
    return sentence[:-1] if sentence[-1:] in SENTENCE_MARKS else sentence


def _same_length(text: str, change: Callable[[str], str]) -> str:
    changed = change(text)
    if len(changed) == len(text):
        return changed
    return "".join(new if len(new := change(char)) == 1 else char for char in text)


# ---- mixing


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


def mixed(gold: Sequence[Example], raw: Sequence[Example], seed: int) -> list[Example]:
    """The training set: every text as it is and made harder in several ways; the same for the same seed.

    Gold texts weigh most as they are; raw text, whose boundaries are only the rule's, is there above all to be
    stripped: then what the rule saw is gone, and words must tell.
    """
    rng = random.Random(seed)
    examples: list[Example] = []
    for text in gold:
        examples += [
            dataclasses.replace(text, weight=2 * text.weight),
            stripped(text, rng),
            stripped(text, rng),
        ]
        for harder, chance in _HARDER:
            if rng.random() < chance:
                examples.append(harder(text, rng))
        if rng.random() < 0.5:
            examples.append(foreign(joined_lines(text, rng), rng))
    for text in raw:
        examples.append(dataclasses.replace(stripped(text, rng), weight=0.5))
        for harder, chance in ((wrapped, 0.1), (foreign, 0.15), (_as_it_is, 0.2)):
            if rng.random() < chance:
                examples.append(dataclasses.replace(harder(text, rng), weight=0.3))
    return [example for example in examples if example.text]


def _as_it_is(example: Example, _rng: random.Random) -> Example:
    return example


_HARDER: tuple[tuple[Callable[[Example, random.Random], Example], float], ...] = (
    (lowered, 0.3),
    (raised, 0.1),
    (joined_lines, 0.3),
    (without_marks, 0.5),
    (wrapped, 0.15),
    (foreign, 1.0),
    (other_script, 0.5),
)


# ---- reading


def read_gold(path: Path) -> Iterator[Example]:
    """Examples from JSONL with `text` and `ends`, or from CoNLL-U; gzip or plain.

    Raises `SegmenterError` naming the file, and the line where one is to blame.
    """
    if ".conllu" in path.suffixes:
        yield from _read_conllu(path)
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


def _read_conllu(path: Path) -> Iterator[Example]:
    """A text a document (`# newdoc`), a line a paragraph (`# newpar`), from the `# text =` of the sentences."""
    text, ends, gap = "", list[int](), ""
    with _opened(path) as lines:
        for line in lines:
            if line.startswith("# newdoc") and text:
                yield Example(text, tuple(ends))
                text, ends, gap = "", [], ""
            elif line.startswith("# newpar") and text:
                gap = "\n"
            elif line.startswith("# text ="):
                text += (gap if text else "") + line.partition("=")[2].strip()
                ends.append(len(text))
                gap = " "
            elif "SpaceAfter=No" in line:
                gap = ""
            elif line[:1].isdigit():
                gap = " "
    if text:
        yield Example(text, tuple(ends))


def read_raw(path: Path) -> Iterator[Example]:
    """Examples from the `text` of JSONL: its lines of prose, with the ends that the rule finds in them."""
    rule = Punctuation()
    for where, document in _documents(path):
        if not isinstance(document.get("text"), str):
            raise SegmenterError(f"{where}: raw text needs `text`")
        text = "\n".join(prose_lines(document["text"]))
        if text:
            yield Example(text, tuple(rule.split([text])[0].tolist()))


_PROSE = re.compile(
    r"[^\W\d_\s\"'“‘(][^|{}=<>`\\/_*#]*[.!?。！？:：][\"'”’)]*|[\"“‘'][^|{}=<>`\\/_*#]*[.!?。！？][\"'”’)]*"
)
_WRAPPED_LINE = range(50, 90)
"""Characters of the lines of a hard-wrapped paragraph."""


def prose_lines(text: str) -> list[str]:
    """The paragraphs that look like running text, a line each: no code, table or mark-up, and an end to them."""
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
            except ValueError as error:
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
    except (OSError, EOFError) as error:
        raise SegmenterError(f"cannot read {path}: {getattr(error, 'strerror', None) or error}") from error
    except UnicodeDecodeError as error:
        raise SegmenterError(f"{path}: not UTF-8: {error}") from error
