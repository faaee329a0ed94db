"""Reading ahead changes when things are made, and nothing else."""

import itertools
import threading
import time

import pytest

from pipeline.errors import ShardError, TrainingError
from pipeline.stream.prefetch import prefetch


@pytest.mark.parametrize("depth", [0, 1, 3])
def test_the_items_in_their_order(depth):
    assert list(prefetch(iter(range(100)), depth, 5)) == list(range(100))


def test_no_more_than_depth_are_ahead():
    made = []
    items = prefetch((made.append(i) or i for i in itertools.count()), 2, 5)
    for i in range(5):
        assert next(items) == i
        time.sleep(0.02)
        assert len(made) <= i + 1 + 2 + 1  # the queue, and the one that waits for room
    items.close()


def test_an_error_comes_in_its_order():
    def items():
        yield 1
        raise ShardError("damaged")

    ahead = prefetch(items(), 2, 5)
    assert next(ahead) == 1
    with pytest.raises(ShardError, match="damaged"):
        next(ahead)


def test_the_thread_ends_with_the_loop():
    with pytest.raises(KeyboardInterrupt):
        for i in (ahead := prefetch(itertools.count(), 2, 5)):
            if i == 3:
                raise KeyboardInterrupt
    ahead.close()
    assert "batch-loader" not in {thread.name for thread in threading.enumerate()}


def test_a_loader_that_stalls_is_named():
    hang = threading.Event()
    ahead = prefetch((hang.wait() for _ in range(1)), 1, stall_seconds=0.05)
    with pytest.raises(TrainingError, match=r"batch loader has brought nothing for 0.05 s"):
        next(ahead)
    hang.set()
