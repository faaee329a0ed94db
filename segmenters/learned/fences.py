"""Fenced blocks of Markdown.

Patterns begin with a line break, which a search finds fast; so the first line is looked at by itself.
"""

import functools
import re
from collections.abc import Iterator
from typing import NamedTuple

_FENCE = r"[ \t]*+(?P<fence>```++|~~~++)(?P<language>[^\n`]*+)\n"
_FIRST_LINE = re.compile(_FENCE)
_LATER_LINE = re.compile(rf"\n{_FENCE}")


class Block(NamedTuple):
    """A fenced block: characters `start` to `end` (exclusive) of a text, with its fences."""

    start: int
    body: int
    """Where the line after the opening fence begins."""
    end: int
    """After the line of the closing fence, or the end of the text."""
    language: str
    """What is written after the opening fence, in lower case."""


def fenced_blocks(text: str) -> Iterator[Block]:
    """The fenced blocks of a text, in order."""
    opening = _FIRST_LINE.match(text) or _LATER_LINE.search(text)
    while opening is not None:
        body = opening.end()
        closing = _closing(opening["fence"]).search(text, body - 1)
        end = len(text) if closing is None else closing.end()
        start = opening.start() + (text[opening.start()] == "\n")
        yield Block(start, body, end, opening["language"].strip().lower())
        opening = _LATER_LINE.search(text, end - 1)


@functools.lru_cache(maxsize=16)
def _closing(fence: str) -> re.Pattern[str]:
    return re.compile(rf"\n[ \t]*+{fence}[`~]*+[ \t]*+(?:\n|\Z)")


def without_fenced_blocks(text: str) -> str:
    """The text between the fenced blocks."""
    parts, position = list[str](), 0
    for block in fenced_blocks(text):
        parts.append(text[position : block.start])
        position = block.end
    return "".join([*parts, text[position:]])
