"""Which lines of a text are code, by how they begin and end."""

import re
from collections.abc import Sequence
from typing import NamedTuple

_CODE_LINE = re.compile(
    r"(?:[@#]|#!)\[?\w"  # decorator, attribute, preprocessor
    r"|(?:import|from|use|using|package|module|require|include|export|return|raise|assert|throw|del|yield|await)"
    r"\b[^.!?]*[^ .!?]$"
    r"|(?:def|class)[ ]\w+[^.]*:(?:[ ]\.\.\.)?$"
    r"|(?:def|class|fn|func|function|let|const|var|val|pub|mod|impl|struct|enum|type|namespace|template|public"
    r"|private|protected|static|void|int|inline|constexpr|interface|async|trait)[ ][^.!?]*[^ .!?]$"
    r"|(?:if|elif|for|while|with|except|match|case|switch)\b[^?]*[:{)]$|(?:else|try|finally|pass|break|continue)\b.?:?$"
    r"|[\w.:]+(?:<[\w, ]*>)?\([^ ]|[\w.:]+\(\)"  # call
    r"|\.\w+\("
    r"|-[ ][^ ]+$|-{3}$"
    r"|</?\w[^>]*>|<[!?]"
    r"|[rbuf]?(?:\"[^\"]*\"|'[^']*')(?:[ ]?[:)\]}]+[,;]?|,|[ ]?[:%+][^.!?]*)$"  # a string
    r"|[\])}>]"
)
_ASSIGNMENT = re.compile(r"[\w.\[\]\"', *&:<>$-]+?[ ]?(?:[-+*/|&%^]|\*\*|//|<<|>>)?=[ ]?[^= ]")
_KEY_AND_VALUE = re.compile(r"(?:-[ ]+)*[\"\']?[\w./@$-]+[\"\']?:(?:[ ][^.?!]*)?$")
_TABLE_ROW = re.compile(r"[\[({]*[-+\w.\"\']+[\])}]*(?:[ ]*[:,][ ]*[\[({]*[-+\w.\"\'\\]*[\])}]*)*,$")
_SHORT_AND_CLOSED = re.compile(r"[^ ]{1,20}[\])}]+[,;]?$")
_CLOSED_ENDS = tuple("])},;")
_SHORT_STRING = re.compile(r"\"[^\"]*\"|'[^']*'")
_CODE_ENDS = tuple("{};\\=[(&+")
_PROSE_END = re.compile(r"[^\W\d_][\"'”’)\]*_]*[.!?…。！？][\"'”’)\]*_]*$")
_CODE_CHARACTERS = re.compile(r"[=;{}<>\\_]")
_FEW_SPACES = 3  # of a line of prose, at least
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
_LONGEST_CODE_LINE = 200
"""Characters."""


class CodeLines(NamedTuple):
    """Numbers of lines."""

    code: int
    python: int
    """Lines of code that Python may have."""
    other: int
    """Lines of code that other languages may have."""


def count_code_lines(lines: Sequence[str], least_code: float, unspaced_prose: bool = False) -> CodeLines:
    """How many of the stripped lines are code; counting ends where fewer than `least_code` lines can be.

    `unspaced_prose`: a long line without spaces may be prose in a script that has none. `learned_v1` takes it for code.
    """
    code = python = other = 0
    most_code = len(lines)
    for line in lines:
        is_code = False
        if len(line) > _LONGEST_CODE_LINE:
            dense = line.count(" ") < len(line) // 12 and not (unspaced_prose and _is_unspaced(line))
            is_code = dense or is_minified(line)
        elif not _is_prose(line):
            bare = _bare(line)
            if _is_code(bare):
                is_code = True
                python += _PYTHON_LINE.match(bare) is not None
                other += _OTHER_LINE.match(bare) is not None
        code += is_code
        most_code -= not is_code
        if most_code < least_code:
            break
    return CodeLines(code, python, other)


def _is_unspaced(line: str) -> bool:
    """Whether most letters are of scripts such as Chinese and Thai: three bytes each in UTF-8."""
    return len(line.encode("utf-8", "surrogatepass")) > 2 * len(line)


def _is_prose(line: str) -> bool:
    return (
        line.count(" ") >= _FEW_SPACES
        and _PROSE_END.search(line, len(line) - 8) is not None
        and not _CODE_CHARACTERS.search(line)
    )


def _bare(line: str) -> str:
    """The line with empty strings, without its comment."""
    if '"' in line or "'" in line:
        line = _SHORT_STRING.sub("''", line)
    if "  #" in line:
        line = line.split("  #")[0]
    if " //" in line:
        line = line.split(" //")[0]
    return line.rstrip()


def _is_code(bare: str) -> bool:
    return (
        bare.endswith(_CODE_ENDS)
        or _CODE_LINE.match(bare) is not None
        or ("=" in bare and _ASSIGNMENT.match(bare) is not None)
        or (":" in bare and _KEY_AND_VALUE.match(bare) is not None)
        or (bare.endswith(",") and _TABLE_ROW.match(bare) is not None)
        or (bare.endswith(_CLOSED_ENDS) and _SHORT_AND_CLOSED.match(bare) is not None)
    )


def is_minified(line: str) -> bool:
    """Whether a long line is code without line breaks, by its share of brackets and operators."""
    operators = sum(map(line.count, "{}();=,[]"))
    return (
        len(line) > _LONGEST_CODE_LINE
        and operators > len(line) // 10
        and line.count(";") + line.count("{") > 3
    )
