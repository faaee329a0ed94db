"""The surveys of the corpus: spread over workers, and kept in the store, so that a rerun asks only what changed."""

import base64
import json
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import replace
from functools import partial
from typing import Any

from pipeline.config import Config, DataConfig
from pipeline.corpus import Piece, Source, Survey, survey_all
from pipeline.corpus.formats.table import FORMATS
from pipeline.corpus.opening.restart_points import RestartPoint
from pipeline.corpus.opening.streams import stamp, version
from pipeline.corpus.survey import URLS_AT_ONCE, Surveyor, SurveyTask
from pipeline.lineage import identity_digest
from pipeline.redaction import redacted
from pipeline.shards.store import ShardStore
from pipeline.shards.workers import ShowProgress, StartWorkers

SURVEYS_NAME = ".surveys.json"
"""Hidden, as the lock: it is no part of the shards. Names and versions of files are in it as digests alone."""
FORM = 1
"""Of the content of that file, and of what a survey is."""
SMALL_BYTES = 2**25
"""A corpus with fewer stored bytes is surveyed here and not kept: that takes a fraction of a second."""
TASK_BYTES, TASK_FILES = 2**26, 256
"""Most stored bytes and files of a task, but for a larger file, which is a task of its own."""
POINTS_BYTES = 2**27
"""Most bytes of restart points in gzip files: those of some 600 GB of text, at 64 MiB per work unit."""
KEEP_SECONDS = 60.0
"""Between two writes of surveys while the survey goes on."""


def survey_corpus(
    config: Config,
    data: DataConfig,
    sources: Sequence[Source],
    work_unit_bytes: int,
    store: ShardStore,
    start_workers: StartWorkers | None,
    progress: ShowProgress,
) -> list[Survey]:
    """The survey of each source: the kept one where file and options are the same, else a new one.

    Without `start_workers`, or with one worker, it is made in threads of this process. Raises `CorpusError`.
    """
    sizes = [FORMATS[source.format].stored_bytes(source) for source in sources]
    if sum(sizes) < SMALL_BYTES:
        return survey_all(sources, data, work_unit_bytes)
    kept = _KeptSurveys(store, data, work_unit_bytes, sources)
    surveys = kept.known()
    missing = [index for index in range(len(sources)) if index not in surveys]
    if missing:
        num_bytes = sum(sizes[index] for index in missing)
        advance = progress(f"survey {len(missing):,} of {len(sources):,} files", num_bytes)
        for index, survey in _made(
            config, Surveyor(data, work_unit_bytes), sources, missing, sizes, start_workers
        ):
            surveys[index] = survey
            kept.add(index, survey)
            advance(sizes[index])
        kept.write()
    return _with_few_points([surveys[index] for index in range(len(sources))])


def _with_few_points(surveys: list[Survey]) -> list[Survey]:
    """The same surveys; without restart points where these would fill the memory of this process."""
    size = sum(len(piece.point.window) for one in surveys for piece in one.pieces if piece.point is not None)
    if size <= POINTS_BYTES:
        return surveys
    return [replace(one, pieces=tuple(replace(piece, point=None) for piece in one.pieces)) for one in surveys]


def _made(
    config: Config,
    surveyor: Surveyor,
    sources: Sequence[Source],
    missing: list[int],
    sizes: list[int],
    start_workers: StartWorkers | None,
) -> Iterator[tuple[int, Survey]]:
    """Index and survey of the missing ones, in any order."""
    if start_workers is None or config.prepare.num_workers == 1:
        for task in _tasks(sources, missing, sizes, TASK_BYTES * 16):
            surveys = survey_all(task.sources, surveyor.data, surveyor.work_unit_bytes)
            yield from zip(task.indexes, surveys, strict=True)
        return
    # The largest first, so that no worker begins one when the others have finished.
    tasks = sorted(_tasks(sources, missing, sizes, TASK_BYTES), key=lambda task: -task.num_bytes)
    workers = start_workers(surveyor, partial(Surveyor, surveyor.data, surveyor.work_unit_bytes), _gibibytes)
    with closing(workers):
        for task, surveys in workers.map(Surveyor.survey, tasks):
            yield from zip(task.indexes, surveys, strict=True)


def _gibibytes(task: SurveyTask) -> float:
    return max(1.0, task.num_bytes / 2**30)


def _tasks(
    sources: Sequence[Source], missing: list[int], sizes: list[int], task_bytes: int
) -> Iterator[SurveyTask]:
    group: list[int] = []
    size = 0

    def task() -> SurveyTask:
        return SurveyTask(tuple(group), tuple(sources[index] for index in group), size)

    for index in missing:
        if group and (size + sizes[index] > task_bytes or len(group) == TASK_FILES):
            yield task()
            group, size = [], 0
        group.append(index)
        size += sizes[index]
    if group:
        yield task()


class _KeptSurveys:
    """The file of surveys in a store."""

    def __init__(
        self, store: ShardStore, data: DataConfig, work_unit_bytes: int, sources: Sequence[Source]
    ) -> None:
        self._store, self._sources = store, sources
        # All options: which of them a format's survey reads is known to the format alone.
        left_out = {"inputs", "dev_inputs", "filters", "dev_fraction", "document_bytes"}
        options = data.model_dump(mode="json", exclude=left_out)
        self._options = identity_digest([FORM, options, work_unit_bytes])
        self._versions: dict[int, str | None] = {}
        self._entries: dict[str, Any] = {}
        self._written_at = time.monotonic()

    def known(self) -> dict[int, Survey]:
        """The surveys of files that are as they were."""
        with ThreadPoolExecutor(URLS_AT_ONCE) as pool:
            self._versions = dict(enumerate(pool.map(lambda one: version(one.path), self._sources)))
        stored = _parsed(self._store.read(SURVEYS_NAME))
        found: dict[int, Survey] = {}
        for index, source in enumerate(self._sources):
            key = self._key(index)
            if key is not None and key in stored:
                sha256, num_bytes, pieces = stored[key]
                self._entries[key] = stored[key]
                made = tuple(
                    Piece(source, start, end, row, size, _point(given))
                    for (start, end, row, size), given in pieces
                )
                found[index] = Survey(source, sha256, num_bytes, stamp(source.path), made)
        return found

    def add(self, index: int, survey: Survey) -> None:
        """Keep a new survey, if the file is the one that was there before it began."""
        key = self._key(index)
        if key is not None:
            pieces = [
                [[one.start, one.end, one.first_row, one.num_bytes], _written(one.point)]
                for one in survey.pieces
            ]
            self._entries[key] = [survey.sha256, survey.num_bytes, pieces]
        if time.monotonic() - self._written_at > KEEP_SECONDS:
            self.write()

    def write(self) -> None:
        """Write the file."""
        content = {"entries": self._entries, "digest": identity_digest(self._entries)}
        self._store.write(SURVEYS_NAME, json.dumps(content).encode())
        self._written_at = time.monotonic()

    def _key(self, index: int) -> str | None:
        """What a survey is a function of, as one digest; None where the file's version is not known."""
        source, at = self._sources[index], self._versions.get(index)
        if at is None:
            return None
        layout = [source.format, source.compression, source.dialect, source.has_rows]
        cut = [] if source.text_cut is None else [source.text_cut.document_bytes]
        return identity_digest([self._options, redacted(source.path), at, layout, *cut])


def _written(point: RestartPoint | None) -> list[Any] | None:
    if point is None:
        return None
    return [point.text, point.stored, point.bits, base64.b64encode(point.window).decode()]


def _point(written: list[Any] | None) -> RestartPoint | None:
    if written is None:
        return None
    text, stored, bits, window = written
    return RestartPoint(text, stored, bits, base64.b64decode(window))


def _parsed(content: bytes | None) -> dict[str, Any]:
    """The kept surveys; none where the file is missing, damaged or of another version."""
    try:
        tree = json.loads(content or b"{}")
        entries = tree["entries"]
        return entries if identity_digest(entries) == tree["digest"] else {}
    except (ValueError, KeyError, TypeError, RecursionError):
        return {}
