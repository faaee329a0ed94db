import dataclasses
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from infra.storage import Folder
from pipeline.corpus import Rejection
from pipeline.errors import CorpusError
from pipeline.shards.format import REJECTED
from pipeline.shards.rejections import check_rejected, first_rejections, parse_rejection, write_rejections

TEXT = st.text(st.characters(blacklist_categories=["Cs"]), max_size=9)
REJECTIONS = st.builds(
    Rejection,
    TEXT,
    TEXT,
    TEXT,
    TEXT,
    st.none() | TEXT,
    num_lines=st.integers(1, 9),
    is_filtered=st.booleans(),
)


@given(st.lists(st.lists(REJECTIONS, max_size=3), max_size=4))
def test_what_is_written_is_read_back(written) -> None:
    store = Folder("memory://rejections")
    write_rejections(store, enumerate(written))
    read = [parse_rejection(line) for line in store.lines(REJECTED)]
    assert read == [(index, one) for index, of_work_unit in enumerate(written) for one in of_work_unit]
    kinds = {(one.reason, one.is_filtered) for _, one in read}
    first = first_rejections(store, kinds)
    assert first == {
        kind: next(one for _, one in read if (one.reason, one.is_filtered) == kind) for kind in kinds
    }


def test_a_line_of_an_earlier_version_is_read() -> None:
    rejection = Rejection("a.jsonl", "line 3", "empty")
    line = json.dumps({"split_index": 4, **dataclasses.asdict(rejection)}).encode()
    assert parse_rejection(line) == (4, rejection)


@pytest.mark.parametrize(
    "line", [b"", b"[]", b"{}", b"\xff", b'{"work_unit_index": 1, "file": 2}', b"[" * 10**5]
)
def test_a_damaged_line_is_refused(line: bytes) -> None:
    with pytest.raises(ValueError, match=r"."):
        parse_rejection(line)


def test_the_bound_counts_lines_and_leaves_filters_out() -> None:
    store = Folder("memory://rejections")
    rejections = [
        Rejection("a.csv", "line 2", "broken CSV", "a quote", num_lines=3),
        Rejection("a.csv", "line 9", "length", is_filtered=True),
    ]
    check_rejected(iter(rejections), 7, 0.3, store)
    with pytest.raises(
        CorpusError, match=r"^3 of 10 documents .*a\.csv, line 2: broken CSV \(a quote\); all of "
    ):
        check_rejected(iter(rejections), 7, 0.29, store)
