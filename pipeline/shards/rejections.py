"""`rejected.jsonl`: one line per document that was rejected or filtered, with its work unit."""

import dataclasses
import json
from collections.abc import Collection, Iterable, Sequence

from pydantic import BaseModel
from pydantic_core import from_json

from pipeline.corpus import Rejection
from pipeline.errors import CorpusError
from pipeline.redaction import redacted
from pipeline.shards.format import REJECTED
from pipeline.shards.store import ShardStore

RejectionKind = tuple[str, bool]
"""A reason of rejection, or the name of a filter; and whether a filter dropped the document."""


class _Line(BaseModel, extra="forbid"):
    work_unit_index: int
    rejection: Rejection


def write_rejections(store: ShardStore, rejections: Iterable[tuple[int, Sequence[Rejection]]]) -> None:
    """Write `rejected.jsonl` from the rejections of each work unit, by its index, in order."""
    rows = (
        json.dumps({"work_unit_index": index, **dataclasses.asdict(rejection)}) + "\n"
        for index, of_work_unit in rejections
        for rejection in of_work_unit
    )
    store.write(REJECTED, "".join(rows).encode())


def parse_rejection(line: bytes) -> tuple[int, Rejection]:
    """Index of the work unit, and the rejection. Raises `ValueError` for any other line."""
    row = from_json(line)
    if not isinstance(row, dict):
        raise ValueError(f"a line of {REJECTED} is no rejection")
    index = row.pop("work_unit_index", row.pop("split_index", None))  # older name
    read = _Line.model_validate({"work_unit_index": index, "rejection": row})
    return read.work_unit_index, read.rejection


def first_rejections(store: ShardStore, kinds: Collection[RejectionKind]) -> dict[RejectionKind, Rejection]:
    """The first rejection of each kind in `rejected.jsonl`, which may be damaged or missing."""
    found: dict[RejectionKind, Rejection] = {}
    for line in store.lines(REJECTED) if kinds else ():
        try:
            _, rejection = parse_rejection(line)
        except ValueError:
            continue
        kind = (rejection.reason, rejection.is_filtered)
        if kind in kinds:
            found.setdefault(kind, rejection)
        if len(found) == len(kinds):
            break
    return found


def check_rejected(
    rejections: Iterable[Rejection], num_documents: int, max_fraction: float, store: ShardStore
) -> None:
    """Raise `CorpusError` where more than `max_fraction` of the documents and broken lines were rejected.

    What filters drop does not count.
    """
    rejections = [rejection for rejection in rejections if not rejection.is_filtered]
    rejected = sum(rejection.num_lines for rejection in rejections)
    total = num_documents + rejected
    if rejected > max_fraction * total:
        first = "; ".join(
            f"{rejection.file}, {rejection.position}: {rejection.reason}"
            + (f" ({rejection.detail})" if rejection.detail else "")
            for rejection in rejections[:3]
        )
        raise CorpusError(
            f"{rejected} of {total} documents (lines, of what is broken) were rejected, more than "
            f"data.max_rejected_fraction={max_fraction} allows: {redacted(first)}; all of them are listed in "
            f"{redacted(store.url.rstrip('/'))}/{REJECTED}"
        )
