"""Recognition of prose, code and delimited tables from a sample of lines, and of fenced blocks in Markdown.

`segmenters.learned.logical_lines` cuts what is not prose.
"""

import re
from collections.abc import Iterator
from enum import Enum
from typing import NamedTuple


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

_FENCE = re.compile(
    r"^[ \t]*(?P<fence>```++|~~~++)(?P<language>[^\n`]*)\n(?P<body>.*?)(?:^[ \t]*(?P=fence)[`~]*[ \t]*$\n?|\Z)",
    re.M | re.S,
)
_LONG_STRING = re.compile(r"(\"\"\"|''').*?(?:(?<!\\)\1|\Z)", re.S)
_BLOCK_COMMENT = re.compile(r"/\*.*?(?:\*/|\Z)", re.S)
_COMMENT_LINE = re.compile(r"#(?!\w|!?\[)|//|--[ ]|;;|#$|%[ ]")
_CODE_LINE = re.compile(
    r"(?:[@#]|#!)\[?\w"  # decorator, attribute, preprocessor
    r"|(?:import|from|use|using|package|module|require|include|export|return|raise|assert|throw|del|yield|await)"
    r"\b[^.!?]*[^ .!?]$"
    r"|(?:def|class)[ ]\w+[^.]*:(?:[ ]\.\.\.)?$"
    r"|(?:def|class|fn|func|function|let|const|var|val|pub|mod|impl|struct|enum|type|namespace|template|public"
    r"|private|protected|static|void|int|inline|constexpr|interface|async|trait)[ ][^.!?]*[^ .!?]$"
    r"|(?:if|elif|for|while|with|except|match|case|switch)\b[^?]*[:{)]$|(?:else|try|finally|pass|break|continue)\b.?:?$"
    r"|[\w.\[\]\"', *&:<>$-]+?[ ]?(?:[-+*/|&%^]|\*\*|//|<<|>>)?=[ ]?[^= ]"  # assignment
    r"|[\w.:]+(?:<[\w, ]*>)?\([^ ]|[\w.:]+\(\)"  # call
    r"|\.\w+\("
    r"|(?:-[ ]+)*[\"\']?[\w./@$-]+[\"\']?:(?:[ ][^.?!]*)?$"  # key: value
    r"|-[ ][^ ]+$|-{3}$"
    r"|</?\w[^>]*>|<[!?]"
    r"|[\[({]*[-+\w.\"\']+[\])}]*(?:[ ]*[:,][ ]*[\[({]*[-+\w.\"\'\\]*[\])}]*)*,$"  # row of a table
    r"|[rbuf]?(?:\"[^\"]*\"|'[^']*')(?:[ ]?[:)\]}]+[,;]?|,|[ ]?[:%+][^.!?]*)$"  # a string
    r"|[\])}>]|[^ ]{1,20}[\])}]+[,;]?$"
)
_SHORT_STRING = re.compile(r"\"[^\"]*\"|'[^']*'")
_CODE_ENDS = tuple("{};\\=[(&+")
_PROSE_END = re.compile(r"[^\W\d_][\"'”’)\]*_]*[.!?…。！？][\"'”’)\]*_]*$")
_CODE_CHARACTERS = re.compile(r"[=;{}<>\\_]")
_FEW_SPACES = 3  # of a line of prose, at least
_FRONT_MATTER = re.compile(r"\A---\n.*?\n---\n(?=.)", re.S)
_PYTHON_LINE = re.compile(
    r"(?:async[ ])?def[ ]\w+[ ]*\(|class[ ]\w+[^{;]*:$|import[ ][\w., ]+$|from[ ][\w.]+[ ]import\b"
    r"|(?:if|elif|for|while|with|except)\b[^{]*:$|(?:else|try|finally):$|@\w[\w.]*(?:\(|$)|self\.\w|raise[ ]\w"
    r"|print\(|[rbu]?\"\"|__\w+__[ ]*=|return\b[^;]*$|pass$|\w[\w.\[\], ]*[ ]=[ ][^;{]*$|[\w.]+\([^;{]*\)$|assert[ ]"
    r"|not[ ]|and[ ]|or[ ]|None\b|del[ ]|yield\b"
)
_OTHER_LINE = re.compile(
    r"[^\"\'#]*[{;]$|}|fn[ ]|let[ ]|const[ ]|var[ ]|pub[ ]|use[ ]|#include|-[ ]+\w|[\w-]+:(?:[ ][^=]*)?$|\[[\w.-]+\]$|<"
    r"|(?:public|private|static|struct|enum|void|int|function|export|namespace)\b"
)
_CODE_SHARE = 0.6
_LINES = 80  # of a sample, evenly spaced
_LONGEST_CODE_LINE = 200
_DEFINITION = re.compile(
    r"^(?:import \w|from \S+ import\b|[ \t]*def \w+\(|class \w[^\n]*:\s*$|async def |if __name__|__\w+__ =)",
    re.M,
)
_MANY_DEFINITIONS = 3
_TOP_LEVEL = re.compile(_DEFINITION.pattern + r"|^\w+(?:: [^=\n]+)? = ", re.M)
_MANY_COMMENTS = 3
_STARTS_WITH_LONG_STRING = re.compile(r"(?:\s|#[^\n]*\n)*[rRbBuU]?(?:\"\"\"|''')")


def recognise(text: str) -> Structure:
    """The kind of a text as a whole, from its first `SAMPLE` characters."""
    sample = text[:SAMPLE]
    if "\n" not in sample:
        return Structure.CODE if _is_minified(sample) else Structure.PROSE
    whole_lines = sample.rindex("\n") + 1
    if len(text) > SAMPLE and whole_lines > SAMPLE // 2:  # else one very long line decides
        sample = sample[:whole_lines]
    starts_with_string = _STARTS_WITH_LONG_STRING.match(sample) is not None
    if starts_with_string and _TOP_LEVEL.search(text[: 4 * SAMPLE]):
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
        sample = _FENCE.sub("", sample)
    if sample.startswith("---\n"):
        sample = _FRONT_MATTER.sub("", sample, count=1)
    if _is_yaml(sample):
        return Structure.CODE
    lines = [line for line in map(str.strip, sample.split("\n")) if line]
    seen = lines[:: len(lines) // _LINES + 1]
    lines = [line for line in seen if not _COMMENT_LINE.match(line)]
    if not lines:
        return Structure.CODE if len(seen) >= _MANY_COMMENTS else Structure.PROSE
    code = python = other = 0
    for line in lines:
        if len(line) > _LONGEST_CODE_LINE:
            code += line.count(" ") < len(line) // 12 or _is_minified(line)
            continue
        if (
            line.count(" ") >= _FEW_SPACES
            and _PROSE_END.search(line, len(line) - 8)
            and not _CODE_CHARACTERS.search(line)
        ):
            continue
        bare = _SHORT_STRING.sub("''", line).split("  #")[0].split(" //")[0].rstrip()
        if bare.endswith(_CODE_ENDS) or _CODE_LINE.match(bare):
            code += 1
            python += bool(_PYTHON_LINE.match(bare))
            other += bool(_OTHER_LINE.match(bare))
    definitions = _DEFINITION.findall(sample)
    at_margin = any(not one[:1].isspace() for one in definitions)  # in documentation, code is indented
    if len(definitions) >= _MANY_DEFINITIONS and at_margin and python > other:
        return Structure.PYTHON
    if code < _CODE_SHARE * len(lines):
        return Structure.PROSE
    return Structure.PYTHON if python > other else Structure.CODE


def _is_minified(line: str) -> bool:
    """Whether a long line is code without line breaks, by its share of brackets and operators."""
    operators = sum(map(line.count, "{}();=,[]"))
    return (
        len(line) > _LONGEST_CODE_LINE
        and operators > len(line) // 10
        and line.count(";") + line.count("{") > 3
    )


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
    if _YAML_NESTED.search(sample) is None:
        return False
    margin = [line for line in sample.split("\n") if line and not line[0].isspace()]
    if not all(map(_YAML_MARGIN.match, margin)):
        return False
    entries = [line for line in margin if line[0] not in "#%]}" and line not in ("---", "...")]
    return sum(map(bool, map(_YAML_KEY.match, entries))) > len(entries) / 2


def regions(text: str) -> Iterator[Region]:
    """The text as regions of one kind each: one region, or the fenced blocks of Markdown and the prose between."""
    whole = recognise(text)
    if whole is not Structure.PROSE or ("```" not in text and "~~~" not in text):
        yield Region(0, len(text), whole)
        return
    start = 0
    for block in _FENCE.finditer(text):
        if block.start() > start:
            yield Region(start, block.start(), Structure.PROSE)
        language = block["language"].strip().lower()
        body = Structure.PYTHON if language.startswith(("py", "{.py")) else Structure.CODE
        yield Region(block.start(), block.start("body"), Structure.CODE)
        if block.end() > block.start("body"):
            yield Region(block.start("body"), block.end(), body)
        start = block.end()
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
