"""Plain text: prose, code, pages with markup. A file is one document, or with `data.document_bytes` several."""

import hashlib
import math
import re
from collections.abc import Iterator, Sequence
from dataclasses import replace

from pipeline.config import DataConfig
from pipeline.corpus.documents import Document, Rejection
from pipeline.corpus.formats.document_maker import DocumentMaker
from pipeline.corpus.formats.format import CorpusFormat
from pipeline.corpus.formats.lines import (
    BYTE_ORDER_MARK,
    bad_byte,
    decoded,
    without_byte_order_marks,
)
from pipeline.corpus.opening.encodings import UTF8, other_encoding
from pipeline.corpus.opening.streams import stored_bytes
from pipeline.corpus.source import Piece, Source, TextCut

_ENDS = tuple(
    re.compile(pattern)
    for pattern in (
        rb"\n[ \t\r]*\n",
        rb"\n",
        rb"[.!?][\"')\]]*\s+|\xe3\x80\x82|\xef\xbc[\x81\x9f]",  # . ! ? and their full-width forms
        rb"\s",
    )
)
"""Where a document may end, in UTF-8, the best first: blank line, line end, end of a sentence, white space."""
AUTO_DOCUMENTS, AUTO_BYTES = 200, (256, 8192)
"""With `data.document_bytes=auto`: a document is the text divided by this number, but of so many bytes."""

_SUFFIXES = """
txt text md markdown mdx rst rest adoc org tex bib log html htm xhtml xml svg css scss less py pyi pyx ipynb js mjs cjs
ts tsx jsx vue c h cc cpp cxx hpp hh cu java kt scala go rs rb php pl pm r jl lua swift m mm cs fs vb hs ml mli clj el
lisp scm erl ex exs sh bash zsh fish bat ps1 sql yaml yml toml ini cfg conf cmake mk gradle proto diff patch srt vtt po
json5
"""


class Text(CorpusFormat):
    """See the module."""

    name = "text"
    title = "plain text"
    is_one_document = True
    suffixes = frozenset(_SUFFIXES.split())

    def cut(
        self, source: Source, data: DataConfig, chunks: Iterator[bytes], work_unit_bytes: int
    ) -> Iterator[Piece]:
        """See `CorpusFormat`. A piece ends with a document."""
        if source.text_cut is None:
            yield from super().cut(source, data, chunks, work_unit_bytes)
            return
        start = end = first_line = lines = 0
        for document in cut_documents(chunks, source.text_cut.document_bytes):
            end += len(document)
            lines += document.count(b"\n")
            if end - start >= work_unit_bytes:
                yield Piece(source, start, end, first_line, end - start)
                start, first_line = end, lines
        if end > start:
            yield Piece(source, start, end, first_line, end - start)

    def read(self, piece: Piece, data: DataConfig, chunks: Iterator[bytes]) -> Iterator[Document | Rejection]:
        """See `CorpusFormat`."""
        make = DocumentMaker(piece.source, data)
        cut = piece.source.text_cut
        if cut is None:
            if piece.num_bytes > data.max_document_bytes:
                yield make.too_large("line 1", piece.num_bytes)
            else:
                yield _document(make, data, b"".join(chunks), 1)
            return
        start, line = piece.start, piece.first_row + 1
        phase = _phase(piece.source.name)
        for content in cut_documents(chunks, cut.document_bytes):
            document = _document(make, data, content, line)
            if isinstance(document, Document):
                is_dev = _holds_a_multiple(start, start + len(content), cut.dev_every_bytes, phase)
                document = replace(document, hashed=0 if is_dev else 2**64 - 1)
            yield document
            start += len(content)
            line += content.count(b"\n")


def _document(make: DocumentMaker, data: DataConfig, content: bytes, first_line: int) -> Document | Rejection:
    text = decoded(without_byte_order_marks(content).replace(b"\n" + BYTE_ORDER_MARK, b"\n"))
    if isinstance(text, str):
        return make.document(f"line {first_line}", first_line, None, text)
    line = first_line + text.object.count(b"\n", 0, text.start)
    encoding = other_encoding(content) if data.encoding == UTF8 else None
    detail = f"it begins as {encoding.upper()}: data.encoding={encoding}" if encoding else bad_byte(text)
    return make.rejection(f"line {line}", make.not_text, detail)


def cut_documents(chunks: Iterator[bytes], document_bytes: int) -> Iterator[bytes]:
    """The same bytes in documents of `document_bytes` to twice as many; the last one has up to three times as many."""
    held = bytearray()
    for chunk in chunks:
        held += chunk
        start = 0
        while len(held) - start > 3 * document_bytes:
            end = _document_end(held, start, document_bytes)
            yield bytes(held[start:end])
            start = end
        del held[:start]
    if held:
        yield bytes(held)


def _document_end(text: bytearray, start: int, document_bytes: int) -> int:
    earliest, latest = start + document_bytes, start + 2 * document_bytes
    for pattern in _ENDS:
        if found := pattern.search(text, earliest - 1, latest):
            return found.end()
    while text[latest] & 0xC0 == 0x80 and latest > earliest:  # inside a character
        latest -= 1
    return latest


def _phase(name: str) -> float:
    """A number in [0, 1) from the name of a file, evenly spread over names."""
    digest = hashlib.blake2b(name.encode(errors="backslashreplace"), digest_size=4).digest()
    return int.from_bytes(digest, "little") / 2**32


def _holds_a_multiple(start: int, end: int, every: float | None, phase: float) -> bool:
    """Whether (n + phase) * every, for some whole n >= 0, lies in [start, end)."""
    return every is not None and math.ceil(start / every - phase) < end / every - phase


def with_text_cuts(sources: Sequence[Source], data: DataConfig) -> list[Source]:
    """The same sources; with `data.document_bytes`, those of plain text say how they are cut."""
    if data.document_bytes is None:
        return list(sources)
    sizes = [stored_bytes(source.path) if source.format == Text.name else 0 for source in sources]
    size = min(sum(sizes), data.max_bytes or sum(sizes))
    size = size if data.encoding == UTF8 else size // 2  # at least so many bytes of UTF-8
    least, most = AUTO_BYTES
    automatic = min(max(size // AUTO_DOCUMENTS, least), most)
    document_bytes = automatic if data.document_bytes == "auto" else data.document_bytes
    every = None
    if data.dev_fraction:
        every = 1.25 * document_bytes / data.dev_fraction  # most documents are a little longer than that
        every = min(every, size) if size else every
    cut = TextCut(document_bytes, every)
    return [replace(source, text_cut=cut) if source.format == Text.name else source for source in sources]
