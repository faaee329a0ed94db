"""The learned segmenter `learned_v1`: structure, features, networks, length constraints, weights file.

It needs numpy and safetensors alone. It must not know how it is trained, nor torch.
"""

from typing import Any


def __getattr__(name: str) -> Any:
    """`segmenters.learned:Learned` is the path in configurations and shards of earlier versions."""
    if name == "Learned":
        from segmenters.learned.segmenter import Learned

        return Learned
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
