"""The protocols of what works for `prepare`, and of its progress."""

from collections.abc import Callable, Iterable, Iterator
from typing import Any, Protocol, TypeVar

W = TypeVar("W")
W_co = TypeVar("W_co", covariant=True)
T = TypeVar("T")
R = TypeVar("R")


class Workers(Protocol[W_co]):
    """Several workers in this process, in others, or on a cluster."""

    def map(self, work: Callable[[W_co, T], R], items: Iterable[T]) -> Iterator[tuple[T, R]]:
        """Call `work` (a method of the worker) for each item; yields (item, result) in any order."""

    def close(self) -> None:
        """Stop them."""


class StartWorkers(Protocol):
    """Starts workers."""

    def __call__(
        self, here: W, elsewhere: Callable[[], W], time_limits: Callable[[Any], float] = ..., /
    ) -> Workers[W]:
        """Takes a worker for this process, a function that makes one in another process, and how many times the time
        limit of a work unit an item may take."""


ShowProgress = Callable[[str, int], Callable[[int], object]]
"""Takes the title of a pass and its bytes of text; returns a function to call with the bytes done."""
