"""Recognition of prose, code and delimited tables from a sample of lines, and of fenced blocks in Markdown.

`segmenters.learned.logical_lines` cuts what is not prose.
"""

import re
from collections.abc import Iterator
from enum import Enum
from typing import NamedTuple

from segmenters.learned.code_lines import count_code_lines, is_minified
from segmenters.learned.fences import fenced_blocks, without_fenced_blocks


class Structure(Enum):
    """Kind of a text or a region of it."""

    PROSE = "prose"
    PYTHON = "python"
    CODE = "code"
    """Code other than Python, configuration or data: a statement or an entry per line."""
    DELIMITED = "delimited"


class Region(NamedTuple):
    """Characters `start` to `end` (exclusive) of a text, of one kind."""

    start: int
    end: int
    structure: Structure


SAMPLE = 2**14
"""Characters at the start of a text from which its kind is recognised."""

_LONG_STRING = re.compile(r"(\"\"\"|''').*?(?:(?<!\\)\1|\Z)", re.S)
_BLOCK_COMMENT = re.compile(r"/\*.*?(?:\*/|\Z)", re.S)
_COMMENT_LINE = re.compile(r"#(?!\w|!?\[)|//|--[ ]|;;|#$|%[ ]")
_FRONT_MATTER = re.compile(r"\A---\n.*?\n---\n(?=.)", re.S)
_CODE_SHARE = 0.6
_LINES = 80  # of a sample, evenly spaced
_DEFINITION = re.compile(
    r"\n(?:import \w|from \S+ import\b|[ \t]*def \w+\(|class \w[^\n]*:[^\S\n]*$|async def |if __name__|__\w+__ =)",
    re.M,
)
"""After a line break, which a search finds fast."""
_DEFINING = ("import", "def ", "class ", "if __name__", "__ =")
"""Each definition has one of these."""
_MANY_DEFINITIONS = 3
_TOP_LEVEL = re.compile(_DEFINITION.pattern + r"|\n\w+(?:: [^=\n]+)? = ", re.M)
_MANY_COMMENTS = 3
_STARTS_WITH_LONG_STRING = re.compile(r"(?:\s|#[^\n]*\n)*[rRbBuU]?(?:\"\"\"|''')")


def recognise(text: str, unspaced_prose: bool = False) -> Structure:
    """The kind of a text as a whole, from its first `SAMPLE` characters (see also `count_code_lines`)."""
    sample = text[:SAMPLE]
    if "\n" not in sample:
        return Structure.CODE if is_minified(sample) else Structure.PROSE
    whole_lines = sample.rindex("\n") + 1
    if len(text) > SAMPLE and whole_lines > SAMPLE // 2:  # else one very long line decides
        sample = sample[:whole_lines]
    starts_with_string = _STARTS_WITH_LONG_STRING.match(sample) is not None
    if starts_with_string and _TOP_LEVEL.search("\n" + text[: 4 * SAMPLE]):
        return Structure.PYTHON
    if _is_delimited(sample, whole=len(text) <= SAMPLE):
        return Structure.DELIMITED
    if '"""' in sample or "'''" in sample:
        if starts_with_string and len(text) <= SAMPLE:
            return Structure.PYTHON
        sample = _LONG_STRING.sub('""', sample)
    if "/*" in sample:
        sample = _BLOCK_COMMENT.sub("", sample)
    if "```" in sample or "~~~" in sample:
        sample = without_fenced_blocks(sample)
    if sample.startswith("---\n"):
        sample = _FRONT_MATTER.sub("", sample, count=1)
    if _is_yaml(sample):
        return Structure.CODE
    lines = [line for line in map(str.strip, sample.split("\n")) if line]
    seen = lines[:: len(lines) // _LINES + 1]
    lines = [line for line in seen if not _COMMENT_LINE.match(line)]
    if not lines:
        return Structure.CODE if len(seen) >= _MANY_COMMENTS else Structure.PROSE
    least_code = _CODE_SHARE * len(lines)
    defines = _has_definitions(sample)
    found = count_code_lines(lines, 0 if defines else least_code, unspaced_prose)
    is_python = found.python > found.other
    if found.code < least_code and not (defines and is_python):
        return Structure.PROSE
    return Structure.PYTHON if is_python else Structure.CODE


def _has_definitions(sample: str) -> bool:
    """Whether there are many Python definitions, and one at the margin: in documentation, code is indented."""
    if not any(map(sample.__contains__, _DEFINING)):
        return False
    definitions = _DEFINITION.findall("\n" + sample)
    return len(definitions) >= _MANY_DEFINITIONS and any(not one[1].isspace() for one in definitions)


_YAML_MARGIN = re.compile(r"(?:[\w./$-]+|\"[^\"]+\"|'[^']+'):(?:\s|$)|-\s|---|\.\.\.$|#|%\w|[\]})]")
_YAML_KEY = re.compile(r"(?:- )*(?:[\w./$-]+|\"[^\"]+\"|'[^']+'):(?:\s|$)")
_YAML_NESTED = re.compile(
    r"^[ ]*(?:- )*[\w./$-]+:[ ]*+(?:[|>][-+\d]*+[ ]*+)?(?:#.*)?\n(?:[ ]+\S|- \S)|^- [\w./$-]+:[^\n]*\n  [\w./$-]+:",
    re.M,
)


def _is_yaml(sample: str) -> bool:
    """Whether every unindented line is a key, an item or a comment, most are keys, and one of them holds a block.

    Prose in blocks and comments does not make the text prose.
    """
    margin = list[str]()
    for line in sample.split("\n"):
        if line and not line[0].isspace():
            if not _YAML_MARGIN.match(line):
                return False
            margin.append(line)
    if _YAML_NESTED.search(sample) is None:
        return False
    entries = [line for line in margin if line[0] not in "#%]}" and line not in ("---", "...")]
    return sum(map(bool, map(_YAML_KEY.match, entries))) > len(entries) / 2


def regions(text: str, unspaced_prose: bool = False) -> Iterator[Region]:
    """The text as regions of one kind each: one region, or the fenced blocks of Markdown and the prose between.

    For `unspaced_prose` see `count_code_lines`.
    """
    whole = recognise(text, unspaced_prose)
    if whole is not Structure.PROSE or ("```" not in text and "~~~" not in text):
        yield Region(0, len(text), whole)
        return
    start = 0
    for block in fenced_blocks(text):
        if block.start > start:
            yield Region(start, block.start, Structure.PROSE)
        yield Region(block.start, block.body, Structure.CODE)
        if block.end > block.body:
            is_python = block.language.startswith(("py", "{.py"))
            yield Region(block.body, block.end, Structure.PYTHON if is_python else Structure.CODE)
        start = block.end
    if start < len(text):
        yield Region(start, len(text), Structure.PROSE)


_DELIMITERS = ",;\t|"
_FEW_RECORDS = 3
_MANY_RECORDS = 6
_NARROW_FIELD = 16  # characters


def _is_delimited(sample: str, whole: bool) -> bool:
    """Whether most records have the same number of one delimiter, with spacing unlike that of prose."""
    outside = re.sub(r'"[^"]*(?:"|\Z)', '"', sample)
    records = [record for record in outside.split("\n") if record.strip()]
    if not whole:
        records = records[:-1]
    if len(records) < _FEW_RECORDS:
        return False
    if len(outside) < len(sample) and all(record.strip() in ('"', records[0].strip()) for record in records):
        return (
            "\n" in sample.replace('"\n"', "").replace('"\r\n"', "").strip()
        )  # one column, with line breaks in it
    for delimiter in _DELIMITERS:
        if outside.count(delimiter) < 0.9 * len(records):  # too few to be in most records
            continue
        counts = [record.count(delimiter) for record in records]
        if len(counts) - counts.count(0) < 0.9 * len(counts):
            continue
        usual = max(set(counts), key=counts.count)
        if usual and counts.count(usual) >= 0.9 * len(counts):
            spaced = outside.count(delimiter + " ") if delimiter != "\t" else 0
            opened = sum(record.rstrip().endswith((delimiter, "{", "(", "[")) for record in records)
            if opened > 0.5 * len(records):
                continue
            narrow = len(outside) <= _NARROW_FIELD * (outside.count(delimiter) + len(records))
            if spaced <= 0.25 * outside.count(delimiter) or (narrow and len(records) >= _MANY_RECORDS):
                return True
    return False
