"""Parquet: one document per row; a file is cut between row groups."""

from collections.abc import Iterator

import pyarrow as pa
import pyarrow.parquet as pq

from pipeline.config import DataConfig
from pipeline.corpus.documents import Document, Rejection
from pipeline.corpus.formats.columnar.columns import check_schema, column_path
from pipeline.corpus.formats.columnar.record_batches import (
    ROWS_AT_ONCE,
    documents_of_batches,
    fields_to_read,
    pieces_of_groups,
)
from pipeline.corpus.formats.format import CorpusFormat
from pipeline.corpus.opening.encodings import is_text
from pipeline.corpus.opening.streams import open_binary
from pipeline.corpus.source import Piece, Source
from pipeline.errors import CorpusError


class Parquet(CorpusFormat):
    """See the module."""

    name = "parquet"
    title = "Parquet"
    suffixes = frozenset(("parquet", "pq"))
    is_binary = True

    def has_signature(self, content: bytes) -> bool:
        """See `CorpusFormat`."""
        return content.startswith(b"PAR1") and not is_text(content)

    def cut(
        self, source: Source, data: DataConfig, chunks: Iterator[bytes], work_unit_bytes: int
    ) -> Iterator[Piece]:
        """See `CorpusFormat`."""
        with open_binary(source.path) as file:
            try:
                parquet = pq.ParquetFile(file)
                metadata, schema = parquet.metadata, parquet.schema_arrow
            except (pa.ArrowException, OSError, ValueError, MemoryError) as error:
                raise CorpusError(
                    f"input {source.path!r} is no whole Parquet file: {error}; fetch or make it again"
                ) from error
        check_schema(source.path, schema, data)
        groups = [metadata.row_group(index) for index in range(metadata.num_row_groups)]
        sizes = [(group.num_rows, group.total_byte_size) for group in groups]
        yield from pieces_of_groups(source, sizes, work_unit_bytes)

    def read(self, piece: Piece, data: DataConfig, chunks: Iterator[bytes]) -> Iterator[Document | Rejection]:
        """See `CorpusFormat`."""
        with open_binary(piece.source.path) as file:
            parquet = pq.ParquetFile(file)
            paths = [column_path(parquet.schema_arrow, field) for field in fields_to_read(data)]
            batches = parquet.iter_batches(
                ROWS_AT_ONCE,
                row_groups=list(range(piece.start, piece.end)),
                columns=[".".join(path) for path in paths if path],
                use_threads=False,
            )
            yield from documents_of_batches(piece, data, batches)
