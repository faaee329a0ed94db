"""Plain text: prose, code, pages with markup. A file is one document."""

from collections.abc import Iterator

from pipeline.config import DataConfig
from pipeline.corpus.documents import Document, Rejection
from pipeline.corpus.encodings import UTF8, other_encoding
from pipeline.corpus.formats.document_maker import DocumentMaker
from pipeline.corpus.formats.format import CorpusFormat
from pipeline.corpus.formats.lines import (
    BYTE_ORDER_MARK,
    bad_byte,
    decoded,
    without_byte_order_marks,
)
from pipeline.corpus.source import Piece

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

    def read(self, piece: Piece, data: DataConfig, chunks: Iterator[bytes]) -> Iterator[Document | Rejection]:
        """See `CorpusFormat`."""
        make = DocumentMaker(piece.source, data)
        if piece.num_bytes > data.max_document_bytes:
            yield make.too_large("line 1", piece.num_bytes)
            return
        content = without_byte_order_marks(b"".join(chunks))
        text = decoded(content.replace(b"\n" + BYTE_ORDER_MARK, b"\n"))
        if isinstance(text, str):
            yield make.document("line 1", 1, None, text)
            return
        line = 1 + content.count(b"\n", 0, text.start)
        encoding = other_encoding(content) if data.encoding == UTF8 else None
        detail = f"it begins as {encoding.upper()}: data.encoding={encoding}" if encoding else bad_byte(text)
        yield make.rejection(f"line {line}", make.not_text, detail)
