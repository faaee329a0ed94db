"""The learned segmenter: features, networks, weights, structure. Knows nothing of its training."""

from typing import Any


def __getattr__(name: str) -> Any:
    """`segmenters.learned:Learned` is the path that configurations and shards have written since the first version."""
    if name == "Learned":
        from segmenters.learned.segmenter import Learned

        return Learned
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
