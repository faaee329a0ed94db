"""Augmentation of labelled text, and the mix of augmented texts on which the learned segmenter is trained."""

import dataclasses
import random
import re
from collections.abc import Callable, Sequence
from typing import NamedTuple

from segmenters.learned.training.examples import Example, rebuilt, sentences

SENTENCE_MARKS = frozenset(".!?。！？…;；:：,，\"'“”‘’")
_LETTERS = re.compile(r"[^\W\d_]+")
_WORDS = re.compile(r"\S+")


class Hint(NamedTuple):
    """A training target beside the boundary: the punctuation and case that stripping removed at a word."""

    start: int
    """Offset of the word in the stripped text."""
    mark: int
    """Index into `MARK_KINDS` of the punctuation mark before the word: 0 none, 1 comma, 2 colon or semicolon, 3
    terminator."""
    is_capital: bool
    """Whether the word began with a capital."""


MARK_KINDS: tuple[frozenset[str], ...] = (
    frozenset(),
    frozenset(",，"),
    frozenset(";；:："),
    frozenset(".!?。！？…"),
)


def stripped_with_hints(example: Example) -> tuple[Example, list[Hint]]:
    """The text in lower case without sentence punctuation and line breaks, and for each word what was removed."""
    parts, hints, ends = list[str](), list[Hint](), list[int]()
    size = mark = 0
    for number, sentence in enumerate(sentences(example)):
        spaced = sentence[:1].isspace() and number > 0
        for word in _WORDS.findall(sentence):
            bare = "".join(char for char in word if char not in SENTENCE_MARKS)
            bare = _same_length(bare, str.lower)
            if bare:
                if spaced:
                    parts.append(" ")
                    size += 1
                letter = next((char for char in word if char.isalpha()), "")
                hints.append(Hint(size, mark, letter.isupper()))
                parts.append(bare)
                size += len(bare)
                mark = 0
            last = word.rstrip(")]}\"'”’")[-1:]
            mark = max(mark, next((kind for kind, marks in enumerate(MARK_KINDS) if last in marks), 0))
            spaced = bool(parts)
        if size and (not ends or ends[-1] < size):
            ends.append(size)
    return dataclasses.replace(example, text="".join(parts), ends=tuple(ends)), hints


def stripped(example: Example, _rng: random.Random) -> Example:
    """Lower case, without sentence punctuation and line breaks."""
    return stripped_with_hints(example)[0]


def lowered(example: Example, _rng: random.Random) -> Example:
    """Lower case; letters whose lower case is longer stay."""
    return dataclasses.replace(example, text=_same_length(example.text, str.lower))


def raised(example: Example, _rng: random.Random) -> Example:
    """Upper case; letters whose upper case is longer stay."""
    return dataclasses.replace(example, text=_same_length(example.text, str.upper))


def joined_lines(example: Example, _rng: random.Random) -> Example:
    """Line breaks become spaces."""
    return dataclasses.replace(example, text=example.text.replace("\n", " "))


def wrapped(example: Example, rng: random.Random) -> Example:
    """Paragraphs hard-wrapped at a width drawn for the text, with an empty line between them."""
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


def without_final_marks(example: Example, rng: random.Random) -> Example:
    """Each sentence loses its final punctuation mark with a probability drawn for the text."""
    share = rng.random()
    pieces = [(_without_last_mark(one) if rng.random() < share else one, True) for one in sentences(example)]
    return rebuilt(example, pieces)


def foreign(example: Example, rng: random.Random) -> Example:
    """Word dropout, and words capitalised as German nouns are."""
    share = rng.choice((0.0, 0.0, 0.1, 0.3, 0.4))

    def capitalised(match: re.Match[str]) -> str:
        word = match.group()
        return word.capitalize() if len(word) > 3 and word.islower() and rng.random() < share else word

    text = _LETTERS.sub(capitalised, example.text)
    return dataclasses.replace(example, text=text, word_dropout=rng.choice((0.5, 0.9, 1.0)))


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
    """Latin letters become those of another script, and punctuation that of the script; word dropout of 1."""
    letters, marks = rng.choice(_SCRIPTS)
    table = str.maketrans({**letters, **{a.upper(): b.upper() for a, b in letters.items()}})
    text = _TERMINATOR_AT_END.sub(lambda match: marks.get(match.group(), match.group()), example.text)
    return dataclasses.replace(
        example, text=_same_length(text, lambda part: part.translate(table)), word_dropout=1.0
    )


def _without_last_mark(sentence: str) -> str:
    return sentence[:-1] if sentence[-1:] in SENTENCE_MARKS else sentence


def _same_length(text: str, change: Callable[[str], str]) -> str:
    changed = change(text)
    if len(changed) == len(text):
        return changed
    return "".join(new if len(new := change(char)) == 1 else char for char in text)


# ---- mixing


def mixed(gold: Sequence[Example], raw: Sequence[Example], seed: int) -> list[Example]:
    """The training set for punctuated text: gold texts unchanged and augmented, raw texts sampled by `seed`.

    Unchanged gold texts have twice the weight. Raw texts have 0.3, since their boundaries are `punctuation_v1`'s.
    """
    rng = random.Random(seed)
    examples: list[Example] = []
    for text in gold:
        examples.append(dataclasses.replace(text, weight=2 * text.weight))
        for augment, chance in _AUGMENTATIONS:
            if rng.random() < chance:
                examples.append(augment(text, rng))
        if rng.random() < 0.5:
            examples.append(foreign(joined_lines(text, rng), rng))
    for text in raw:
        for augment, chance in ((wrapped, 0.1), (foreign, 0.15), (_unchanged, 0.2)):
            if rng.random() < chance:
                examples.append(dataclasses.replace(augment(text, rng), weight=0.3))
    return [example for example in examples if example.text]


def _unchanged(example: Example, _rng: random.Random) -> Example:
    return example


_AUGMENTATIONS: tuple[tuple[Callable[[Example, random.Random], Example], float], ...] = (
    (lowered, 0.3),
    (raised, 0.1),
    (joined_lines, 0.3),
    (without_final_marks, 0.5),
    (wrapped, 0.15),
    (foreign, 1.0),
    (other_script, 0.5),
)


# ---- for `learned_v2`, whose rule sees each text before and after


_QUOTES = ('"', '"'), ("“", "”"), ("„", "“"), ("«", "»"), ("'", "'"), ("‘", "’"), ("»", "«"), ("「", "」")


def requoted(example: Example, rng: random.Random) -> Example:
    """Double quotes of another style, each as long as before."""
    first, last = rng.choice(_QUOTES)
    text = example.text
    for opener, closer in (("“", "”"), ("«", "»"), ("„", "“")):
        if opener in text:
            return dataclasses.replace(example, text=text.replace(opener, first).replace(closer, last))
    halves = text.split('"')
    parts = [half + (first if number % 2 == 0 else last) for number, half in enumerate(halves[:-1])]
    return dataclasses.replace(example, text="".join(parts) + halves[-1])


def shuffled(example: Example, rng: random.Random) -> Example:
    """Its sentences in another order, one space between them."""
    found = [one.strip() for one in sentences(example) if one.strip()]
    rng.shuffle(found)
    return rebuilt(example, [(f" {one}" if number else one, True) for number, one in enumerate(found)])


def singles(example: Example, rng: random.Random, share: float) -> list[Example]:
    """Texts of one sentence each, half of them without their final mark."""
    found = []
    for sentence in sentences(example):
        one = sentence.strip()
        if one and rng.random() < share:
            one = _without_last_mark(one) if rng.random() < 0.5 else one
            found.append(dataclasses.replace(example, text=one, ends=(len(one),)))
    return [one for one in found if one.text]


def few_final_marks(example: Example, rng: random.Random) -> Example:
    """Few sentences lose their final mark."""
    share = rng.choice((0.05, 0.15, 0.4))
    pieces = [(_without_last_mark(one) if rng.random() < share else one, True) for one in sentences(example)]
    return rebuilt(example, pieces)
