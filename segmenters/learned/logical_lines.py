"""Ends of sentences in code and tables.

A logical line of code ends at a line break outside brackets and strings, a record of a table at one outside quotes.
"""

import re
from collections.abc import Iterator

import numpy as np

from segmenters.contract import Ends
from segmenters.learned.structure import Structure


def structured_ends(text: str, structure: Structure) -> Ends:
    """Ends of the logical lines or records of a text of this kind (not prose)."""
    if structure is Structure.DELIMITED:
        return _record_ends(text)
    if "\n" not in text[:-1]:
        return np.array([len(text)] if text else [], np.int64)
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


_STRING = r"[^{mark}\\\n]*+(?:\\.[^{mark}\\\n]*+)*+"
_LONG_STRING = r"[^{mark}\\]*+(?:(?:\\.|{mark}(?!{mark}{mark}))[^{mark}\\]*+)*+"
_DELIMITED = {
    '"""': (_LONG_STRING.format(mark='"'), '"""'),
    "'''": (_LONG_STRING.format(mark="'"), "'''"),
    '"': (_STRING.format(mark='"'), '"'),
    "'": (_STRING.format(mark="'"), "'"),
    "`": (r"[^`\n]*+", "`"),
    "/*": (r"[^*]*+(?:\*(?!/)[^*]*+)*+", "*/"),
}
"""By opening delimiter: a pattern for its content, and the closing delimiter."""
_BODIES = {opener: (re.compile(body, re.S), closer) for opener, (body, closer) in _DELIMITED.items()}


def _closed(opener: str) -> str:
    body, closer = _DELIMITED[opener]
    return re.escape(opener) + body + re.escape(closer)


def _tokens(text: str, fast: re.Pattern[str], pattern: re.Pattern[str]) -> Iterator[tuple[str, int, int]]:
    """Kind, start and end of brackets, line ends and line comments; strings are skipped.

    The opening delimiter of a string or block comment that is never closed is an ordinary character. `fast` skips all
    that is closed; where it stops at an opening delimiter, which is rare, the rest of the text takes the slow way.
    """
    for match in fast.finditer(text):
        kind = match.lastgroup
        if kind is None:
            return
        start, end = match.span(kind)
        if kind == "opener":
            yield from _slow_tokens(text, pattern, start)
            return
        yield kind, start, end


def _slow_tokens(text: str, pattern: re.Pattern[str], position: int) -> Iterator[tuple[str, int, int]]:
    """The tokens from an offset outside strings on.

    Time is linear: where a delimiter was not closed, no later one of its kind is, up to where the search for the end
    stopped.
    """
    open_until = dict.fromkeys(_BODIES, 0)
    while (token := pattern.search(text, position)) is not None:
        kind = str(token.lastgroup)
        start, position = token.span()
        if kind != "opener":
            yield kind, start, position
            continue
        opener = token.group()
        if start >= open_until[opener]:
            body, closer = _BODIES[opener]
            match = body.match(text, position)
            assert match is not None
            if text.startswith(closer, match.end()):
                position = match.end() + len(closer)
                continue
            open_until[opener] = match.end()
        if len(opener) == 3:
            position = start + 2  # an empty string, and a quote that may open another one


_PYTHON_TOKEN = re.compile(
    r"(?P<opener>\"\"\"|'''|[\"'])"
    r"|(?P<comment>\#[^\n]*)|(?P<open>[(\[{])|(?P<close>[)\]}])|(?P<join>\\\r?\n)|(?P<line>\n)"
)
_PYTHON_FAST = re.compile(
    r"(?:[^\"'#()\[\]{}\\\n]++|"
    + "|".join(map(_closed, ('"""', "'''")))
    + r"|(?!\"\"\"|''')(?:"
    + "|".join(map(_closed, ('"', "'")))
    + r"|\"(?=[^\"\\\n]*+(?:\n|\Z))|'(?=[^'\\\n]*+(?:\n|\Z)))"
    r"|[(\[{][^\"'#()\[\]{}\\\n]*+[)\]}]|\\(?:\r?\n)?)*+"
    r"(?:(?P<opener>[\"'])|(?P<comment>\#[^\n]*)|(?P<open>[(\[{])|(?P<close>[)\]}])|(?P<line>\n)|\Z)",
    re.S,
)
"""What changes nothing, then a token: closed strings, brackets with plain text in them, quotes alone in their line."""


def _python_ends(text: str) -> list[int]:
    """Ends of logical lines, and of comments without code in their line."""
    found: list[int] = []
    depth = start = 0
    line_start = 0  # of the physical line
    comment_alone = False
    for kind, token_start, end in _tokens(text, _PYTHON_FAST, _PYTHON_TOKEN):
        if kind == "line":
            if depth == 0 or comment_alone:
                if text[start:token_start].strip():
                    found.append(end)
                elif found:
                    found[-1] = end
                start = end
            line_start, comment_alone = end, False
        elif kind == "open":
            depth += 1
        elif kind == "close":
            depth = max(depth - 1, 0)
        elif kind == "comment":
            comment_alone = not text[line_start:token_start].strip()
    return found


_CODE_TOKEN = re.compile(
    r"(?P<character>'(?:[^'\\\n]|\\[^\n]{1,8})')|(?P<opener>[\"`]|/\*)|(?P<comment>(?<![:\w])//[^\n]*)"
    r"|(?P<open>[(\[])|(?P<block>\{)|(?P<close>[)\]])|(?P<unblock>\})|(?P<join>\\\r?\n)|(?P<line>\n)"
)
_CODE_FAST = re.compile(
    r"(?:[^\"'`/(\[{)\]}\\\n]++|'(?:[^'\\\n]|\\[^\n]{1,8})'|"
    + "|".join(map(_closed, ('"', "`", "/*")))
    + r"|(?<![:\w])//[^\n]*+|['`]|/(?!\*)|\"(?=[^\"\\\n]*+(?:\n|\Z))"
    r"|[(\[][^\"'`/(\[{)\]}\\\n]*+[)\]]|\{[^\"'`/(\[{)\]}\\\n]*+\}|\\(?:\r?\n)?)*+"
    r"(?:(?P<opener>\"|/\*)|(?P<open>[(\[])|(?P<block>\{)|(?P<close>[)\]])|(?P<unblock>\})|(?P<line>\n)|\Z)",
    re.S,
)
"""As `_PYTHON_FAST`; line comments too are skipped."""


def _code_ends(text: str) -> list[int]:
    """Line breaks outside parentheses, square brackets and block comments; a block has lines of its own.

    An empty line closes all open brackets, so that one stray bracket does not join the rest into one sentence.
    """
    found: list[int] = []
    depths = [0]
    start = 0
    for kind, token_start, end in _tokens(text, _CODE_FAST, _CODE_TOKEN):
        if kind == "line":
            is_empty_line = text[end : end + 1] == "\n"
            if depths[-1] == 0 or is_empty_line:
                if is_empty_line:
                    depths[-1] = 0
                if text[start:token_start].strip():
                    found.append(end)
                elif found:
                    found[-1] = end
                start = end
        elif kind == "open":
            depths[-1] += 1
        elif kind == "close":
            depths[-1] = max(depths[-1] - 1, 0)
        elif kind == "block":
            depths.append(0)
        elif kind == "unblock" and len(depths) > 1:
            depths.pop()
    return found
