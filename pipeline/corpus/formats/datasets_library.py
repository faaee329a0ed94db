"""Data sets of the `datasets` library: `datasets:NAME_OR_FOLDER[:SPLIT]`. One document per row; it is cut between
rows."""

import functools
import hashlib
import json
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import Any

from pipeline.config import DataConfig
from pipeline.corpus.documents import Document, Rejection
from pipeline.corpus.formats.columnar.columns import check_columns, column_path
from pipeline.corpus.formats.columnar.record_batches import fields_to_read
from pipeline.corpus.formats.document_maker import DocumentMaker
from pipeline.corpus.formats.fields import shortly
from pipeline.corpus.formats.format import CorpusFormat
from pipeline.corpus.source import Piece, Source, Survey
from pipeline.errors import CorpusError

PREFIX = "datasets:"


class Datasets(CorpusFormat):
    """See the module."""

    name = "datasets"
    title = "data set"
    input_prefix = PREFIX

    def source(self, given: str) -> Source:
        """See `CorpusFormat`."""
        path = given.removeprefix(PREFIX)
        # The name of a local folder is its last part, that of a hub's data set is the whole.
        is_local = Path(path.partition(":")[0]).expanduser().is_dir()
        name = PREFIX + (PurePosixPath(path).name if is_local else path)
        return Source(path=path, name=name, format=self.name)

    def stored_bytes(self, source: Source) -> int:
        """See `CorpusFormat`."""
        return 0

    def survey(self, source: Source, data: DataConfig, work_unit_bytes: int) -> Survey:
        """See `CorpusFormat`. The digest is that of the data set's fingerprint."""
        dataset = load_dataset(source)
        check_columns(source.path, dataset.column_names, data, dataset.features.arrow_schema)
        size = dataset.size_in_bytes or dataset.data.nbytes
        rows = max(1, min(len(dataset), len(dataset) * work_unit_bytes // max(1, size)))
        pieces = tuple(
            Piece(source, row, min(row + rows, len(dataset)), row, size * rows // max(1, len(dataset)))
            for row in range(0, len(dataset), rows)
        )
        identity = json.dumps([source.name.removeprefix(PREFIX), dataset._fingerprint, len(dataset)])
        return Survey(source, hashlib.sha256(identity.encode()).hexdigest(), size, "", pieces)

    def read(self, piece: Piece, data: DataConfig, chunks: Iterator[bytes]) -> Iterator[Document | Rejection]:
        """See `CorpusFormat`."""
        make = DocumentMaker(piece.source, data)
        dataset = load_dataset(piece.source)
        schema = dataset.features.arrow_schema
        heads = {path[0] for field in fields_to_read(data) if (path := column_path(schema, field))}
        dataset = dataset.select_columns(sorted(heads))
        for row in range(piece.start, piece.end):
            try:
                values = dataset[row]
            except (ValueError, ArithmeticError, RecursionError) as error:
                yield make.rejection(f"row {row}", "unreadable value", shortly(str(error)))
                continue
            yield make.from_row(f"row {row}", row, values)


@functools.lru_cache(maxsize=4)
def load_dataset(source: Source) -> Any:
    """The `datasets.Dataset` of a source (split `train` where none is named).

    Raises `CorpusError` where there is no such data set or split.
    """
    import datasets

    name, _, split = source.path.partition(":")
    try:
        if (Path(name) / "dataset_info.json").is_file() or (Path(name) / "dataset_dict.json").is_file():
            loaded = datasets.load_from_disk(name)
            return loaded[split or "train"] if isinstance(loaded, datasets.DatasetDict) else loaded
        return datasets.load_dataset(name, split=split or "train")
    except Exception as error:
        reason = next(iter(str(error).splitlines()), type(error).__name__)
        raise CorpusError(f"input {source.name!r} cannot be loaded: {reason}") from error
