"""Repeated hashes of document ids, against sets; in parts as all at once."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from pipeline.shards import duplicates

HASHES = st.sampled_from([0, 1, 2**60, 2**60 + 1, 2**63, 2**64 - 1])


@given(st.lists(st.lists(HASHES, max_size=6), max_size=6), st.booleans())
def test_repeated_hashes_are_those_of_earlier_documents(lists, in_parts):
    expected, seen = {}, set()
    for index, hashes in enumerate(lists):
        for value in hashes:
            if value in seen:
                expected.setdefault(index, set()).add(value)
            seen.add(value)
    at_once, duplicates.AT_ONCE = duplicates.AT_ONCE, 0 if in_parts else duplicates.AT_ONCE
    try:
        found = duplicates.repeated_id_hashes([np.array(hashes, np.uint64) for hashes in lists])
    finally:
        duplicates.AT_ONCE = at_once
    assert found == expected and list(found) == sorted(found)
