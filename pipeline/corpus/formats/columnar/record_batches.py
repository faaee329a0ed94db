"""Tables in groups of rows: pieces of adjacent groups, and the documents in record batches."""

from collections.abc import Iterable, Iterator

import pyarrow as pa

from pipeline.config import DataConfig
from pipeline.corpus.documents import Document, Rejection
from pipeline.corpus.formats.columnar.columns import column_values
from pipeline.corpus.formats.document_maker import DocumentMaker
from pipeline.corpus.source import Piece, Source
from pipeline.errors import CorpusError

ROWS_AT_ONCE = 256


def pieces_of_groups(source: Source, sizes: list[tuple[int, int]], work_unit_bytes: int) -> Iterator[Piece]:
    """Pieces of adjacent groups, from the (rows, bytes) of each group."""
    start = row = rows = size = 0
    for index, (group_rows, group_bytes) in enumerate(sizes):
        rows, size = rows + group_rows, size + group_bytes
        if size >= work_unit_bytes or index == len(sizes) - 1:
            yield Piece(source, start, index + 1, row, size)
            start, row, rows, size = index + 1, row + rows, 0, 0


def fields_to_read(data: DataConfig) -> list[str]:
    """The fields of text and id, each once."""
    return list(dict.fromkeys((data.text_field, data.id_field)))


def documents_of_batches(
    piece: Piece, data: DataConfig, batches: Iterable[pa.RecordBatch]
) -> Iterator[Document | Rejection]:
    """The documents of a piece in `batches`. Raises `CorpusError` where they are damaged."""
    path, row = piece.source.path, piece.first_row
    make = DocumentMaker(piece.source, data)
    fields = fields_to_read(data)
    try:
        for batch in batches:
            columns = {field: column_values(path, batch, field) for field in fields}
            present = {field: values for field, values in columns.items() if values is not None}
            for index in range(batch.num_rows):
                yield make.from_row(
                    f"row {row}", row, {field: values[index] for field, values in present.items()}
                )
                row += 1
    except (pa.ArrowException, OSError, MemoryError) as error:
        raise CorpusError(
            f"input {path!r} is damaged after row {row}: {error}; fetch or make it again"
        ) from error
