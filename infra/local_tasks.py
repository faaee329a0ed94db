"""Work done in this process, one item after the other: the same interface as `ray_tasks`, without Ray."""

from collections.abc import Callable, Iterable, Iterator
from typing import Any


class LocalWorkers:
    """One worker, here."""

    def __init__(self, make_worker: Callable[[], Any]) -> None:
        self._worker = make_worker()

    def map(self, method: str, items: Iterable[Any], *shared: Any) -> Iterator[tuple[Any, Any]]:
        """Call `method(item, *shared)` of the worker for each item; yields (item, result)."""
        for item in items:
            yield item, getattr(self._worker, method)(item, *shared)

    def close(self) -> None:
        """Nothing to stop."""
