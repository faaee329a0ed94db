"""Work units: planning and reading. A work unit is a few pieces of files, and becomes one shard per split."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from pipeline.config import DataConfig
from pipeline.corpus.documents import Document, Rejection
from pipeline.corpus.formats.table import FORMATS
from pipeline.corpus.opening.streams import RangeReader, stamp
from pipeline.corpus.source import Piece, Source, Survey
from pipeline.errors import CorpusError

TYPICAL_COMPRESSION = 4
"""Assumed bytes of text per byte of gzip or zstd."""


@dataclass(frozen=True)
class WorkUnitPart:
    """One piece of a work unit, with the state of its file when the work unit was planned."""

    piece: Piece
    sha256: str
    stamp: str


@dataclass(frozen=True)
class WorkUnit:
    """Pieces of the corpus in its order: whole documents, about `work_unit_bytes` of text."""

    index: int
    parts: tuple[WorkUnitPart, ...]

    @property
    def num_bytes(self) -> int:
        """Bytes of text, for planning and progress."""
        return sum(part.piece.num_bytes for part in self.parts)

    def inputs(self) -> list[dict[str, str | int]]:
        """The content of the work unit, independent of the location of the corpus."""
        return [
            {
                "name": part.piece.source.name,
                "sha256": part.sha256,
                "start": part.piece.start,
                "end": part.piece.end,
            }
            for part in self.parts
        ]


class WorkUnitReader:
    """Reads work units. It keeps its position in a compressed file, so that the next work unit continues there."""

    def __init__(self, data: DataConfig) -> None:
        self._data = data
        self._ranges: RangeReader | None = None

    def read(self, work_unit: WorkUnit) -> Iterator[Document | Rejection]:
        """Documents and rejections of the work unit, in the order of the files.

        Raises `CorpusError` for a file that has changed since the work unit was planned.
        """
        for part in work_unit.parts:
            source = part.piece.source
            if part.stamp and stamp(source.path) != part.stamp:
                raise CorpusError(f"input {source.path!r} changed after work on it began; run again")
            yield from FORMATS[source.format].read(part.piece, self._data, self._chunks(part.piece))
            if part.stamp and stamp(source.path) != part.stamp:
                raise CorpusError(f"input {source.path!r} changed while it was read; run again")

    def _chunks(self, piece: Piece) -> Iterator[bytes]:
        """The bytes of a piece; the file is opened when the first chunk is read."""
        source = piece.source
        if self._ranges is None or self._ranges.path != source.path:
            self._ranges = RangeReader(source.path, source.compression, self._data.encoding)
        yield from self._ranges.chunks(piece.start, piece.end, piece.point)


def choose_work_unit_bytes(sources: Iterable[Source]) -> int:
    """A 64th of the known bytes of the corpus, but between 2 and 64 MiB."""
    total = 0
    for source in sources:
        size = FORMATS[source.format].stored_bytes(source)
        total += size * TYPICAL_COMPRESSION if source.compression else size
    return min(max(total // 64, 2 * 2**20), 64 * 2**20)


def plan_work_units(surveys: Iterable[Survey], data: DataConfig, work_unit_bytes: int) -> list[WorkUnit]:
    """Work units in the order of the files; small files share one. A pure function of its arguments.

    `data.max_bytes` ends `data.inputs` with the piece that reaches it; `data.dev_inputs` are read whole.
    """
    return [
        WorkUnit(index, parts) for index, parts in enumerate(_group(_capped(surveys, data), work_unit_bytes))
    ]


def _capped(surveys: Iterable[Survey], data: DataConfig) -> Iterator[WorkUnitPart]:
    total = 0
    for survey in surveys:
        for piece in survey.pieces:
            if survey.source.is_dev:
                yield WorkUnitPart(piece, survey.sha256, survey.stamp)
            elif data.max_bytes is None or total < data.max_bytes:
                total += piece.num_bytes
                yield WorkUnitPart(piece, survey.sha256, survey.stamp)


def _group(parts: Iterable[WorkUnitPart], work_unit_bytes: int) -> Iterator[tuple[WorkUnitPart, ...]]:
    """Group pieces into work units. A group may reach 5/4 of `work_unit_bytes`, so that a small last piece of a file
    joins it."""
    group: list[WorkUnitPart] = []
    size = 0
    for part in parts:
        if group and size + part.piece.num_bytes > work_unit_bytes * 5 // 4:
            yield tuple(group)
            group, size = [], 0
        group.append(part)
        size += part.piece.num_bytes
    if group:
        yield tuple(group)
