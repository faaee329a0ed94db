"""CoNLL-U: documents with their sentences, and the text before tokenization."""

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

_ID = re.compile(r"\d+(?:-\d+|\.\d+)?")
_COLUMNS = 10


@dataclass
class ConlluDocument:
    """The sentences between two lines `# newdoc`."""

    line: int
    """Number of its first line, from 1."""
    num_lines: int = 0
    doc_id: str | None = None
    """Id in `# newdoc id = ...`."""
    parts: list[str] = field(default_factory=list)
    ends: list[int] = field(default_factory=list)
    """Ends of the sentences in the text: characters, exclusive."""
    broken_line: int | None = None
    """Number of the first line that is neither comment nor token; None where there is none."""

    @property
    def text(self) -> str:
        """The sentences with the white space between them."""
        return "".join(self.parts)


def read_conllu(lines: Iterable[str]) -> Iterator[ConlluDocument]:
    """The documents of a file; one without `# newdoc` is one document.

    A sentence is its `# text =`, or else its tokens. Between sentences and tokens is a space, except after a token with
    `SpaceAfter=No`; before `# newpar` is a line end.
    """
    document = ConlluDocument(1)
    sentence = _Sentence()
    gap = ""
    for number, line in enumerate(lines, 1):
        line = line.rstrip("\r\n")
        is_new = _is_comment(line, "newdoc")
        if not line.strip() or is_new:
            gap = sentence.append_to(document, gap)
            sentence = _Sentence()
        if is_new:
            if document.num_lines:
                yield document
            document, gap = ConlluDocument(number, doc_id=_value(line, "newdoc id")), ""
        document.num_lines += 1
        if _is_comment(line, "newpar"):
            gap = "\n"
        elif line.startswith("#"):
            sentence.text = _value(line, "text") or sentence.text
        elif line.strip() and not sentence.add(line) and document.broken_line is None:
            document.broken_line = number
    sentence.append_to(document, gap)
    if document.num_lines:
        yield document


class _Sentence:
    def __init__(self) -> None:
        self.text: str | None = None
        self._tokens: list[str] = []
        self._gap = ""
        self._last_of_range = 0

    def add(self, line: str) -> bool:
        """Add the token of a line; False where the line has none."""
        columns = line.split("\t")
        if len(columns) != _COLUMNS or not _ID.fullmatch(columns[0]):
            return False
        first, _, last = columns[0].partition("-")
        if "." in first or (not last and len(first) < 19 and int(first) <= self._last_of_range):
            return True  # an empty node, or a word of a multiword token
        if last:
            self._last_of_range = int(last[:18])
        self._tokens += [self._gap, columns[1]]
        self._gap = "" if "SpaceAfter=No" in columns[9].split("|") else " "
        return True

    def append_to(self, document: ConlluDocument, gap: str) -> str:
        """Add the sentence to the document after `gap`, and return the gap after the sentence."""
        text = self.text or "".join(self._tokens)
        if not text:
            return gap
        end = document.ends[-1] if document.ends else 0
        document.parts += [gap, text] if end else [text]
        document.ends.append(end + (len(gap) if end else 0) + len(text))
        return self._gap if self._tokens else " "


def _is_comment(line: str, key: str) -> bool:
    return re.match(rf"#\s*{key}\b", line) is not None


def _value(line: str, key: str) -> str | None:
    match = re.match(rf"#\s*{key}\s*=(.*)", line)
    return (match[1].strip() or None) if match else None
