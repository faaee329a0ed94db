"""A small checkpoint of any number of ranks, with known numbers."""

import numpy as np
import torch

from pipeline.training.checkpoint import (
    AVERAGE,
    CHECKSUMS_FILE,
    MOMENTS,
    WEIGHT,
    Part,
    checksums_text,
    digests,
    files_in,
    snapshot,
    write_state,
)

KINDS = (WEIGHT, *MOMENTS)


def parameter(kind, name, size):
    return torch.from_numpy(np.random.default_rng([*kind.encode(), *name.encode()]).normal(size=size)).float()


def write_rank(folder, sizes, cuts, step, rank):
    """The files of one of len(cuts) + 1 ranks, which hold the parameters' elements one after the other."""
    edges = [0, *sorted(cuts), sum(sizes.values())]
    parts, averages, first = [], {}, 0
    for name, size in sizes.items():
        start, end = max(edges[rank] - first, 0), min(edges[rank + 1] - first, size)
        if start < end:
            held = {kind: parameter(kind, name, size)[start:end] for kind in KINDS}
            parts.append(Part(name, (size,), start, held))
            averages[name] = parameter(AVERAGE, name, size)[start:end]
        first += size
    state = {"world_size": len(cuts) + 1, "step": step}
    write_state(folder, snapshot(parts, averages, {}), state, rank)


def write(folder, sizes, cuts, step=1):
    """A whole checkpoint."""
    folder.mkdir(parents=True, exist_ok=True)
    for rank in range(len(cuts) + 1):
        write_rank(folder, sizes, cuts, step, rank)
    write_checksums(folder)
    return folder


def write_checksums(folder):
    """Make the checksums those of the files as they are."""
    names = [name for name in files_in(folder) if name != CHECKSUMS_FILE]
    (folder / CHECKSUMS_FILE).write_text(checksums_text(digests(folder, names)))
