"""Documents that repeat the id or text of one in an earlier work unit: they are dropped, the first one stays."""

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from pipeline.corpus.filters import Deduplicator, Filter, Signatures

AT_ONCE = 2**24
"""Largest number of hashes that are compared at once."""
PARTS = 16
"""Parts of a larger number, by the first four bits of the hash."""


def repeated_id_hashes(hashes_of: list[NDArray[np.uint64]]) -> dict[int, frozenset[int]]:
    """Repeated id hashes: list index -> hashes that an earlier list has too.

    Beside the hashes it takes 24 bytes per document while it runs, or 1.5 where there are more than `AT_ONCE`.
    """
    if sum(map(len, hashes_of)) <= AT_ONCE:
        return _repeated(hashes_of)
    found: dict[int, frozenset[int]] = {}
    for part in range(PARTS):
        of_part = [hashes[hashes >> np.uint64(60) == part] for hashes in hashes_of]
        for owner, repeated in _repeated(of_part).items():
            found[owner] = found.get(owner, frozenset()) | repeated
    return dict(sorted(found.items()))


def _repeated(hashes_of: list[NDArray[np.uint64]]) -> dict[int, frozenset[int]]:
    everything = np.concatenate([np.zeros(0, np.uint64), *hashes_of])
    order = np.argsort(everything, kind="stable")
    repeated = order[1:][everything[order[1:]] == everything[order[:-1]]]
    owners = np.searchsorted(np.cumsum([len(hashes) for hashes in hashes_of]), repeated, side="right")
    found: dict[int, set[int]] = {}
    for owner, value in zip(owners.tolist(), everything[repeated].tolist(), strict=True):
        found.setdefault(owner, set()).add(value)
    return {owner: frozenset(values) for owner, values in sorted(found.items())}


def deduplicators(filters: Mapping[str, Filter | Deduplicator]) -> dict[str, Deduplicator]:
    """The filters that compare documents with each other, in order."""
    return {name: step for name, step in filters.items() if isinstance(step, Deduplicator)}


def find_duplicates(
    steps: Mapping[str, Deduplicator], signed: Mapping[int, Mapping[str, Signatures]]
) -> dict[int, dict[str, frozenset[int]]]:
    """Which documents of each work unit repeat earlier ones, given the signatures by index of the work unit."""
    found: dict[int, dict[str, frozenset[int]]] = {index: {} for index in signed}
    for name, step in steps.items():
        parts = [(index, signed[index][name]) for index in sorted(signed) if name in signed[index]]
        if not parts:
            continue
        repeated = step.repeated(np.concatenate([signatures for _, signatures in parts]))
        ends = np.cumsum([len(signatures) for _, signatures in parts])
        for (index, _), of_work_unit in zip(parts, np.split(repeated, ends[:-1]), strict=True):
            found[index][name] = frozenset(np.flatnonzero(of_work_unit).tolist())
    return found
