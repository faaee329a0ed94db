"""The learned segmenter `learned_v1`: structure, features, networks, length constraints, weights file.

It needs only numpy and safetensors. It must not know its training, nor torch.
"""

from typing import Any


def __getattr__(name: str) -> Any:
    """`segmenters.learned:Learned` is the path in configurations and shards of earlier versions."""
    if name == "Learned":
        from segmenters.learned.segmenter import Learned

        return Learned
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
