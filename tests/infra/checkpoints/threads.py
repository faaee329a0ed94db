"""Ranks that are threads of this process."""

import threading
from concurrent.futures import ThreadPoolExecutor


class ThreadRanks:
    """One of several ranks; each node has two."""

    def __init__(self, rank, world_size, shared):
        self.rank, self.world_size, self._shared = rank, world_size, shared
        self.node, self.local_rank = divmod(rank, 2)

    def gather(self, value):
        barrier, values = self._shared
        values[self.rank] = value
        barrier.wait(20)
        taken = list(values)
        barrier.wait(20)
        return taken


def on_ranks(world_size, do):
    """What `do(ranks)` returns on each rank, or the exception that it raises."""
    shared = threading.Barrier(world_size), [None] * world_size

    def run(rank):
        try:
            return do(ThreadRanks(rank, world_size, shared))
        except Exception as error:
            return error

    with ThreadPoolExecutor(world_size) as threads:
        return list(threads.map(run, range(world_size)))
