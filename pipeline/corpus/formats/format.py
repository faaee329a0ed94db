"""The base class of corpus formats: how files are recognised, where they may be cut, and how they are read."""

import functools
import hashlib
from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import ClassVar

from pipeline.config import DataConfig
from pipeline.corpus.documents import Document, Rejection
from pipeline.corpus.opening.encodings import UTF8, other_encoding, transcoded
from pipeline.corpus.opening.restart_points import RestartPoints, can_restart
from pipeline.corpus.opening.streams import stamp, stored_bytes, text_chunks
from pipeline.corpus.source import Piece, Source, Survey
from pipeline.errors import CorpusError

POINTS_PER_PIECE = 16
"""Restart points per piece of a gzip file, of which the nearest is kept: a worker inflates about a 32nd too much."""


@dataclass(frozen=True)
class FileStart:
    """The start of a file, by which its format is recognised."""

    path: str
    content: bytes
    """The first bytes, uncompressed."""
    is_whole: bool
    """Whether `content` is the whole file."""
    suffix: str
    """Suffix of the file name that implies a format, in lower case; empty where there is none."""
    data: DataConfig

    @property
    def is_given(self) -> bool:
        """Whether `data.format` names the format."""
        return self.data.format != "auto"

    @functools.cached_property
    def text(self) -> str:
        """The content, decoded, without a byte order mark."""
        return self.content.decode(self.data.encoding, errors="replace").removeprefix("\ufeff")


@dataclass(frozen=True)
class Resemblance:
    """What the content of a file looks like, independent of its name."""

    what: str
    """As in `looks like ...`."""
    remedy: str
    """How to have it read, as in `...; set data.format=csv`."""
    is_certain: bool = False
    """Whether no other format is possible."""
    has_text_field: bool = False


@dataclass(frozen=True)
class Layout:
    """How to read a file, according to its start."""

    dialect: str = ""
    """See `Source.dialect`."""
    has_rows: bool = True
    """See `Source.has_rows`."""


class CorpusFormat(ABC):
    """One format of corpus files. A subclass names it and reads it; the rest has defaults for a text format."""

    name: ClassVar[str]
    """Name in `data.format` and in `Source.format`."""
    title: ClassVar[str]
    """Name for people, such as `JSON lines`."""
    suffixes: ClassVar[frozenset[str]] = frozenset()
    """Suffixes of file names, without the dot, in lower case."""
    input_prefix: ClassVar[str | None] = None
    """An input with this prefix is of this format and not a file; `source` makes its `Source`."""
    is_binary: ClassVar[bool] = False
    """Whether the format is recognised by `has_signature`, and is neither compressed nor in a text encoding."""
    is_one_document: ClassVar[bool] = False
    """Whether a file is one document; an error in it rejects only this document."""

    def source(self, given: str) -> Source:
        """The source of an input that begins with `input_prefix`."""
        raise NotImplementedError

    def has_signature(self, content: bytes) -> bool:
        """Whether a file that starts with `content` is of this format, independent of its name."""
        return False

    def objection(self, start: FileStart) -> str | None:
        """The reason why a file with a name of this format is not of this format; None if it is.

        Raises `CorpusError` where a better remedy than another format is known.
        """
        return None

    def resemblance(self, start: FileStart) -> Resemblance | None:
        """What a file of another name looks like; None where it does not look like this format."""
        return None

    def layout(self, start: FileStart) -> Layout:
        """How a file of this format is to be read. Raises `CorpusError` where it cannot be."""
        return Layout()

    def stored_bytes(self, source: Source) -> int:
        """Stored bytes, for planning; 0 where they are not known before the survey."""
        return stored_bytes(source.path)

    def survey(self, source: Source, data: DataConfig, work_unit_bytes: int) -> Survey:
        """Read the file once: digest, size, and pieces of about `work_unit_bytes` (whole documents).

        Raises `CorpusError` for a file that is missing, truncated, or without the column of the text.
        """
        before = stamp(source.path)
        digest = hashlib.sha256()
        # Offsets in a text that is transcoded are not those of the inflated bytes.
        has_points = source.compression == "gzip" and data.encoding == UTF8 and not self.is_one_document
        points = (
            RestartPoints(max(work_unit_bytes // POINTS_PER_PIECE, 1))
            if has_points and can_restart()
            else None
        )
        chunks = text_chunks(source.path, source.compression, on_raw=digest.update, points=points)
        target = work_unit_bytes
        if not self.is_binary:
            if data.encoding == UTF8 and not self.is_one_document:
                chunks = _in_utf8(chunks, source.path)
            chunks = transcoded(chunks, data.encoding, source.path)
            target = min(work_unit_bytes, data.max_bytes or work_unit_bytes)
        pieces = tuple(self.cut(source, data, chunks, target))
        for _ in chunks:  # the chunks that `cut` did not read
            pass
        if points is not None:
            pieces = tuple(replace(piece, point=points.before(piece.start)) for piece in pieces)
        if stamp(source.path) != before:
            raise CorpusError(
                f"input {source.path!r} changed while it was read; run again when it is complete"
            )
        return Survey(source, digest.hexdigest(), sum(piece.num_bytes for piece in pieces), before, pieces)

    def cut(
        self, source: Source, data: DataConfig, chunks: Iterator[bytes], work_unit_bytes: int
    ) -> Iterator[Piece]:
        """The pieces of a file, in order: whole documents, at least `work_unit_bytes` each except the last.

        `chunks` are its bytes from start to end, uncompressed and, of a text format, in UTF-8. By default the file is
        one piece.
        """
        size = sum(map(len, chunks))
        yield Piece(source, 0, size, 0, size)

    @abstractmethod
    def read(self, piece: Piece, data: DataConfig, chunks: Iterator[bytes]) -> Iterator[Document | Rejection]:
        """Documents and rejections of a piece, in its order.

        `chunks` are the bytes from `piece.start` to `piece.end`, as in `cut`; a format that is not cut by bytes does
        not read them. Raises `CorpusError` where reading cannot continue.
        """


def _in_utf8(chunks: Iterator[bytes], path: str) -> Iterator[bytes]:
    """The same chunks. Raises `CorpusError` for text in another encoding, in which all lines would be broken."""
    for index, chunk in enumerate(chunks):
        encoding = None if index else other_encoding(chunk)
        if encoding:
            raise CorpusError(
                f"input {path!r} is {encoding.upper()}, as its first bytes say; set data.encoding={encoding}"
            )
        yield chunk
