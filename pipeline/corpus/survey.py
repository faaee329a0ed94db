"""The survey of the files before work starts: digest, size, and pieces of each."""

import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

from pipeline.config import DataConfig
from pipeline.corpus.formats.table import FORMATS
from pipeline.corpus.source import Source, Survey


def survey_all(sources: Sequence[Source], data: DataConfig, work_unit_bytes: int) -> list[Survey]:
    """`survey` of each source, several at a time in threads: reading, hashing and decompression release Python's
    lock."""
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        return list(pool.map(lambda source: survey(source, data, work_unit_bytes), sources))


def survey(source: Source, data: DataConfig, work_unit_bytes: int) -> Survey:
    """Read the file once: digest, size, and pieces of about `work_unit_bytes` (whole documents).

    Raises `CorpusError` for a file that is missing, truncated, or without the column of the text.
    """
    return FORMATS[source.format].survey(source, data, work_unit_bytes)
