"""Segmenters: texts to the ends of their sentences. A segmenter never changes a text.

Segmenters are found by a versioned name in `BUILT_IN`, by an entry point of the group `sllm.segmenters` in another
package, or by `package.module:Class`. This package imports nothing else of sllm, and must not know tokens, shards or
models.
"""

from segmenters.contract import Segmenter, SegmenterError
from segmenters.registry import BUILT_IN, DEFAULT_SEGMENTER, load, names

__all__ = ["BUILT_IN", "DEFAULT_SEGMENTER", "Segmenter", "SegmenterError", "load", "names"]
