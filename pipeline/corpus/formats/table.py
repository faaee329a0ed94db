"""The table of formats. A new one is a class in a file of this folder and a line here.

A test compares the names with the values of `data.format`.
"""

from pipeline.corpus.formats.columnar.arrow import Arrow
from pipeline.corpus.formats.columnar.parquet import Parquet
from pipeline.corpus.formats.conllu import ConllU
from pipeline.corpus.formats.csv_format import Csv
from pipeline.corpus.formats.datasets_library import Datasets
from pipeline.corpus.formats.format import CorpusFormat
from pipeline.corpus.formats.jsonl import JsonLines
from pipeline.corpus.formats.text import Text

TEXT: CorpusFormat = Text()
"""The format of a file that resembles no other."""
FORMATS: dict[str, CorpusFormat] = {
    format_.name: format_ for format_ in (JsonLines(), Csv(), ConllU(), Parquet(), Arrow(), Datasets(), TEXT)
}
"""Formats by their name in `data.format`. If a file resembles several, the first one counts."""


def format_by_signature(content: bytes) -> CorpusFormat | None:
    """The binary format of a file that starts with `content`; None where it has no signature of one."""
    return next((format_ for format_ in FORMATS.values() if format_.has_signature(content)), None)


def format_by_suffix(suffix: str) -> CorpusFormat | None:
    """The format whose files have the suffix (without the dot, in lower case), or None."""
    return next((format_ for format_ in FORMATS.values() if suffix in format_.suffixes), None)
