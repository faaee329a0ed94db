"""The corpus: inputs -> sources (files) -> surveys (digest, where to cut) -> splits -> documents."""

from pipeline.corpus.formats.python_docs import python_docs
from pipeline.corpus.formats.readers import Document, Rejection, WorkUnitReader
from pipeline.corpus.sources import PYTHON_DOCS, Source, find_sources
from pipeline.corpus.survey import Piece, Survey, survey, survey_all
from pipeline.corpus.work_units import WorkUnit, plan_work_units

__all__ = [
    "PYTHON_DOCS",
    "Document",
    "Piece",
    "Rejection",
    "Source",
    "Survey",
    "WorkUnit",
    "WorkUnitReader",
    "find_sources",
    "plan_work_units",
    "python_docs",
    "survey",
    "survey_all",
]
