"""The survey of the files before work starts: digest, size, and pieces of each."""

import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from pipeline.config import DataConfig
from pipeline.config.paths import is_url
from pipeline.corpus.formats.table import FORMATS
from pipeline.corpus.source import Source, Survey

URLS_AT_ONCE = 16
"""Files at URLs that are read concurrently, since reading mostly waits for another machine."""


def survey_all(
    sources: Sequence[Source], data: DataConfig, work_unit_bytes: int, threads: int | None = None
) -> list[Survey]:
    """`survey` of each source, several at a time in threads: reading, hashing and decompression release Python's
    lock. `threads`: by default one for each core; for URLs there are more."""
    of_urls = URLS_AT_ONCE if any(is_url(source.path) for source in sources) else 1
    with ThreadPoolExecutor(max(threads or os.cpu_count() or 1, of_urls)) as pool:
        return list(pool.map(lambda source: survey(source, data, work_unit_bytes), sources))


def survey(source: Source, data: DataConfig, work_unit_bytes: int) -> Survey:
    """Read the file once: digest, size, and pieces of about `work_unit_bytes` (whole documents).

    Raises `CorpusError` for a file that is missing, truncated, or without the column of the text.
    """
    return FORMATS[source.format].survey(source, data, work_unit_bytes)


@dataclass(frozen=True)
class SurveyTask:
    """Some files that are surveyed one after the other, or those at URLs at once."""

    indexes: tuple[int, ...]
    """Of the sources in the corpus."""
    sources: tuple[Source, ...]
    num_bytes: int
    """Stored bytes."""

    def __str__(self) -> str:
        more = f" and {len(self.sources) - 1} files more" if len(self.sources) > 1 else ""
        return f"the survey of {self.sources[0].shown_name or self.sources[0].name!r}{more}"


@dataclass(frozen=True)
class Surveyor:
    """Surveys files in another process."""

    data: DataConfig
    work_unit_bytes: int

    def survey(self, task: SurveyTask) -> list[Survey]:
        """The survey of each file of the task. Raises `CorpusError`."""
        return survey_all(task.sources, self.data, self.work_unit_bytes, threads=1)
