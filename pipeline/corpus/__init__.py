"""The corpus: inputs -> sources (files) -> surveys (digests, pieces) -> work units -> documents and rejections.

It must not know tokens, shards or models, nor where the work runs.
"""

from pipeline.corpus.documents import Document, Rejection
from pipeline.corpus.files.inputs import PYTHON_DOCS, find_sources
from pipeline.corpus.python_docs import python_docs
from pipeline.corpus.source import Piece, Source, Survey
from pipeline.corpus.survey import survey, survey_all
from pipeline.corpus.work_units import WorkUnit, WorkUnitReader, choose_work_unit_bytes, plan_work_units

__all__ = [
    "PYTHON_DOCS",
    "Document",
    "Piece",
    "Rejection",
    "Source",
    "Survey",
    "WorkUnit",
    "WorkUnitReader",
    "choose_work_unit_bytes",
    "find_sources",
    "plan_work_units",
    "python_docs",
    "survey",
    "survey_all",
]
