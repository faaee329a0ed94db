"""Text whose sentences are lines or records by construction: code, delimited tables, fenced blocks.

What kind a text is, is told from a sample of its lines; where its sentences end is then certain: a logical line
of code ends at a line break outside brackets and strings, a record at one outside quotes.
"""

import re
from collections.abc import Iterator
from enum import Enum
from typing import NamedTuple

import numpy as np

from segmenters.contract import Ends


class Structure(Enum):
    """What a stretch of text is."""

    PROSE = "prose"
    PYTHON = "python"
    CODE = "code"
    """Code, configuration or data in another language than Python, a statement or an entry a line."""
    DELIMITED = "delimited"


class Region(NamedTuple):
    """A stretch of a text, `start` to `end`, of one kind."""

    start: int
    end: int
    structure: Structure


SAMPLE = 2**14
"""Characters that are looked at to tell the kind."""

# ---- what kind it is

_FENCE = re.compile(
    r"^[ \t]*(?P<fence>```+|~~~+)(?P<language>[^\n`]*)\n(?P<body>.*?)(?:^[ \t]*(?P=fence)[`~]*[ \t]*$\n?|\Z)",
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
_FRONT_MATTER = re.compile(r"---\n.*?\n---\n(?=.)", re.S)
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
    r"^(?:import \w|from \S+ import\b|[ \t]*def \w+\(|class \w+[^\n]*:\s*$|async def |if __name__|__\w+__ =)",
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
        return Structure.PROSE
    if len(text) > SAMPLE:
        sample = sample[: sample.rindex("\n") + 1]
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
    lines = [line for line in map(str.strip, sample.split("\n")) if line]
    seen = lines[:: len(lines) // _LINES + 1]
    lines = [line for line in seen if not _COMMENT_LINE.match(line)]
    if not lines:
        return Structure.CODE if len(seen) >= _MANY_COMMENTS else Structure.PROSE
    code = python = other = 0
    for line in lines:
        if len(line) > _LONGEST_CODE_LINE:
            code += line.count(" ") < len(line) // 12
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


def regions(text: str) -> Iterator[Region]:
    """The text as stretches of one kind each: as a whole, or the fenced blocks of Markdown and what is between."""
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


_MARKS = ",;\t|"
_FEW_RECORDS = 3
_MANY_RECORDS = 6
_NARROW_FIELD = 16  # characters


def _is_delimited(sample: str, whole: bool) -> bool:
    """Whether most records have the same number of one delimiter, as prose does not put it."""
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
    for mark in _MARKS:
        counts = [record.count(mark) for record in records]
        usual = max(set(counts), key=counts.count)
        if usual and counts.count(usual) >= 0.9 * len(counts):
            spaced = outside.count(mark + " ") if mark != "\t" else 0
            opened = sum(record.rstrip().endswith((mark, "{", "(", "[")) for record in records)
            if opened > 0.5 * len(records):
                continue
            narrow = len(outside) <= _NARROW_FIELD * (outside.count(mark) + len(records))
            if spaced <= 0.25 * outside.count(mark) or (narrow and len(records) >= _MANY_RECORDS):
                return True
    return False


# ---- where its sentences end


def structured_ends(text: str, structure: Structure) -> Ends:
    """Ends of the logical lines or records of a text of this kind (not prose)."""
    if structure is Structure.DELIMITED:
        return _record_ends(text)
    found = _python_ends(text) if structure is Structure.PYTHON else _code_ends(text)
    if text and (not found or found[-1] != len(text)):
        if found and not text[found[-1] :].strip():
            found[-1] = len(text)
        else:
            found.append(len(text))
    return np.array(found, np.int64)


def _record_ends(text: str) -> Ends:
    """Line breaks with an even number of quotes before them; empty lines belong to the record before."""
    found: list[int] = []
    for record in re.finditer(r'[^"\n]*(?:"[^"]*"[^"\n]*)*(?:"[^"]*\Z)?(?:\n\s*|\Z)', text):
        if record.end() > record.start():
            found.append(record.end())
    return np.array(found, np.int64)


_PYTHON_TOKEN = re.compile(
    r'(?P<string>"""[^"\\]*(?:(?:\\.|"(?!""))[^"\\]*)*"""|'
    r"'''[^'\\]*(?:(?:\\.|'(?!''))[^'\\]*)*'''|"
    r'"[^"\\\n]*(?:\\.[^"\\\n]*)*"|'
    r"'[^'\\\n]*(?:\\.[^'\\\n]*)*')"
    r"|(?P<comment>\#[^\n]*)|(?P<open>[(\[{])|(?P<close>[)\]}])|(?P<join>\\\r?\n)|(?P<line>\n)",
    re.S,
)


def _python_ends(text: str) -> list[int]:
    """Ends of logical lines, and of comments that stand alone in a line."""
    found: list[int] = []
    depth = start = 0
    line_start = 0  # of the physical line
    comment_alone = False
    for token in _PYTHON_TOKEN.finditer(text):
        group = token.lastgroup
        if group == "line":
            end = token.end()
            if depth == 0 or comment_alone:
                if text[start : token.start()].strip():
                    found.append(end)
                elif found:
                    found[-1] = end
                start = end
            line_start, comment_alone = end, False
        elif group == "open":
            depth += 1
        elif group == "close":
            depth = max(depth - 1, 0)
        elif group == "comment":
            comment_alone = not text[line_start : token.start()].strip()
    return found


_CODE_TOKEN = re.compile(
    r'(?P<skip>"[^"\\\n]*(?:\\.[^"\\\n]*)*"|'
    r"'(?:[^'\\\n]|\\[^\n]{1,8})'|`[^`\n]*`"
    r"|/\*.*?\*/|(?<![:\w])//[^\n]*)|(?P<open>[(\[])|(?P<block>\{)|(?P<close>[)\]])|(?P<unblock>\})|(?P<join>\\\r?\n)|(?P<line>\n)",
    re.S,
)


def _code_ends(text: str) -> list[int]:
    """Line breaks outside parentheses, square brackets and block comments; a block opens lines of its own.

    An empty line ends whatever was left open, so that one stray bracket does not swallow the rest.
    """
    found: list[int] = []
    depths = [0]
    start = 0
    for token in _CODE_TOKEN.finditer(text):
        group = token.lastgroup
        if group == "line":
            end = token.end()
            is_empty_line = text[end : end + 1] == "\n"
            if depths[-1] == 0 or is_empty_line:
                if is_empty_line:
                    depths[-1] = 0
                if text[start : token.start()].strip():
                    found.append(end)
                elif found:
                    found[-1] = end
                start = end
        elif group == "open":
            depths[-1] += 1
        elif group == "close":
            depths[-1] = max(depths[-1] - 1, 0)
        elif group == "block":
            depths.append(0)
        elif group == "unblock" and len(depths) > 1:
            depths.pop()
    return found
