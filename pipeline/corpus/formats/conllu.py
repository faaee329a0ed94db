"""CoNLL-U: documents of annotated sentences; only their text is read."""

from collections.abc import Iterator

from pipeline.config import DataConfig
from pipeline.corpus.documents import Document, Rejection
from pipeline.corpus.formats.document_maker import DocumentMaker
from pipeline.corpus.formats.format import CorpusFormat
from pipeline.corpus.formats.lines import lines, without_byte_order_marks
from pipeline.corpus.source import Piece
from segmenters.conllu import read_conllu

_TOO_LONG = "..."


class ConllU(CorpusFormat):
    """See the module. A file is not cut, since it may be a single document."""

    name = "conllu"
    title = "CoNLL-U"
    suffixes = frozenset(("conllu",))

    def read(self, piece: Piece, data: DataConfig, chunks: Iterator[bytes]) -> Iterator[Document | Rejection]:
        """See `CorpusFormat`."""
        make = DocumentMaker(piece.source, data, surrogates_are_bytes=True)
        content = lines(chunks, data.max_document_bytes)
        texts = (
            # One that is too long counts as broken, as it is none of CoNLL-U.
            _TOO_LONG if line is None else without_byte_order_marks(line).decode(errors="surrogateescape")
            for line, _ in content
        )
        for found in read_conllu(texts):
            position = f"line {found.line}"
            if found.broken_line is not None:
                detail = (
                    f"line {found.broken_line} is neither a comment nor ten columns that begin with a number"
                )
                yield make.rejection(position, "broken CoNLL-U", detail, found.doc_id, found.num_lines)
            elif found.ends or found.doc_id is not None:
                yield make.document(position, found.line, found.doc_id, found.text)
