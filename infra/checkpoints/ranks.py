"""The ranks that write or read a checkpoint together."""

from collections.abc import Callable
from typing import Any, Protocol

from pipeline.errors import SllmError


class Ranks(Protocol):
    """One rank's view of all of them."""

    rank: int
    world_size: int
    node: int
    """Number of this rank's node."""
    local_rank: int
    """Number of this rank on its node."""

    def gather(self, value: Any) -> list[Any]:
        """The values of all ranks, in their order, on each of them; it waits for all."""


class Alone:
    """The only rank."""

    rank, world_size, node, local_rank = 0, 1, 0, 0

    def gather(self, value: Any) -> list[Any]:
        """This value."""
        return [value]


def of_rank_0(ranks: Ranks, do: Callable[[], Any]) -> Any:
    """What `do` returns on rank 0, on all ranks. Raises its `SllmError` on all of them."""
    result: Any = None
    if ranks.rank == 0:
        try:
            result = do()
        except SllmError as error:
            result = error
    result = ranks.gather(result)[0]
    if isinstance(result, SllmError):
        raise result
    return result
