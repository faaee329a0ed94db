"""Where the sentences of structured text end: a logical line of code ends at a line break outside brackets and
strings, a record of a table at one outside quotes.
"""

import re

import numpy as np

from segmenters.contract import Ends
from segmenters.structure import Structure


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
