"""The corpus: inputs -> sources (files) -> surveys (digest, where to cut) -> splits -> documents."""

from pipeline.corpus.formats.python_docs import python_docs
from pipeline.corpus.formats.readers import Document, Rejection, SplitReader
from pipeline.corpus.sources import PYTHON_DOCS, Source, find_sources
from pipeline.corpus.survey import Piece, Survey, survey, survey_all
from pipeline.corpus.work_units import Split, plan_splits

__all__ = [
    "PYTHON_DOCS",
    "Document",
    "Piece",
    "Rejection",
    "Source",
    "Split",
    "SplitReader",
    "Survey",
    "find_sources",
    "plan_splits",
    "python_docs",
    "survey",
    "survey_all",
]
