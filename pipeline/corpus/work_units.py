"""The unit of work: a few pieces of files, made into one shard."""

import hashlib
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from pipeline.config import DataConfig
from pipeline.corpus.sources import Source
from pipeline.corpus.streams import stored_bytes
from pipeline.corpus.survey import Piece, Survey

TYPICAL_COMPRESSION = 4
"""Text over gzip or zstd of it."""
_MADE_ID = re.compile(r"#\d+@[0-9a-f]{12}\Z")


@dataclass(frozen=True)
class WorkUnitPart:
    """One piece of a split, with what its file was when the split was planned."""

    piece: Piece
    sha256: str
    stamp: str


@dataclass(frozen=True)
class WorkUnit:
    """Pieces of the corpus in its order: about `work_unit_bytes` of text, whole documents."""

    index: int
    parts: tuple[WorkUnitPart, ...]

    @property
    def num_bytes(self) -> int:
        """Bytes of text, for planning and progress."""
        return sum(part.piece.num_bytes for part in self.parts)

    def inputs(self) -> list[dict[str, str | int]]:
        """What the split is made of, without the place where it lies."""
        return [
            {
                "name": part.piece.source.name,
                "sha256": part.sha256,
                "start": part.piece.start,
                "end": part.piece.end,
            }
            for part in self.parts
        ]


def choose_work_unit_bytes(sources: Iterable[Source]) -> int:
    """A 64th of the corpus, as far as file sizes tell, but between 2 and 64 MiB."""
    total = 0
    for source in sources:
        size = 0 if source.format == "datasets" else stored_bytes(source.path)
        total += size * TYPICAL_COMPRESSION if source.compression else size
    return min(max(total // 64, 2 * 2**20), 64 * 2**20)


def plan_work_units(surveys: Iterable[Survey], data: DataConfig, work_unit_bytes: int) -> list[WorkUnit]:
    """Splits in the order of the files; small files share one. A pure function of its arguments.

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
    """A group ends before it would pass 5/4 of `work_unit_bytes`, so that a file's last, small piece joins in."""
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


def id_hash(doc_id: str) -> int:
    """A 64-bit hash of a document id, evenly spread."""
    return int.from_bytes(hashlib.blake2b(doc_id.encode(), digest_size=8).digest(), "little")


def made_id(name: str, row: int, text: bytes) -> tuple[str, int]:
    """The id of a document that brings none, and the 64-bit hash of its text (UTF-8).

    Neither depends on where the corpus lies, nor on what else is in it.
    """
    digest = hashlib.blake2b(text, digest_size=8)
    # A name that is not UTF-8 holds lone surrogates.
    shown = name.encode(errors="backslashreplace").decode()
    return f"{shown}#{row}@{digest.hexdigest()[:12]}", int.from_bytes(digest.digest(), "little")


def has_made_form(doc_id: str) -> bool:
    """Whether it looks as `made_id` makes them."""
    return _MADE_ID.search(doc_id) is not None


def is_dev_document(hashed: int, dev_fraction: float) -> bool:
    """Whether the document with this hash of its own id, or of its text, goes to the dev split."""
    return hashed < dev_fraction * 2.0**64
