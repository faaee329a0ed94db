"""Texts on which splitters fail as a kind: single sentences, and hard-wrapped paragraphs, made from labelled texts."""

import textwrap
from collections.abc import Iterable, Sequence

from segmenters.learned.training.examples import Example, sentences

WIDTH = 72
"""Characters of a line of wrapped text."""
UNSPACED = ("ja", "zh", "th", "km", "lo", "my")
"""Languages that are not wrapped at spaces."""
_FINAL = ".!?…。！？।؟۔։"
_CLOSING = "\"'”’»)] "


def single_sentences(examples: Iterable[Example], with_mark: bool) -> list[str]:
    """The labelled sentences without line breaks: those with a final mark, or all without theirs."""
    singles = [one.strip() for example in examples for one in sentences(example)]
    singles = [one for one in singles if one and "\n" not in one]
    if with_mark:
        return [one for one in singles if one.rstrip(_CLOSING)[-1:] in _FINAL and one.rstrip(_CLOSING)]
    return [bare for one in singles if (bare := one.rstrip(_FINAL + ":;" + _CLOSING))]


def wrapped_text(text: str, newline: str) -> str:
    """Each line of the text as a hard-wrapped paragraph; only white space differs."""
    lines = (
        newline.join(textwrap.wrap(line, WIDTH, break_long_words=False, break_on_hyphens=False))
        for line in text.split("\n")
    )
    return newline.join(lines)


def wrapped(examples: Sequence[Example], newline: str) -> list[Example]:
    """The texts wrapped, with the labels moved to the same characters that are not white space."""
    return [_moved(example, wrapped_text(example.text, newline)) for example in examples]


def _moved(example: Example, text: str) -> Example:
    places = [index + 1 for index, char in enumerate(text) if not char.isspace()]
    ends, solid, start = list[int](), 0, 0
    for end in example.ends:
        solid += sum(not char.isspace() for char in example.text[start:end])
        start = end
        if solid and (not ends or places[solid - 1] > ends[-1]):
            ends.append(places[solid - 1])
    return Example(text, tuple(ends))
