"""Segmenters: text in, ends of sentences out; the text itself is never touched.

A segmenter is found by a versioned name in `BUILT_IN`, by an entry point of the group `sllm.segmenters`
in someone else's package, or by `package.module:Class`.
"""

from segmenters.contract import Segmenter, SegmenterError
from segmenters.registry import BUILT_IN, load, names

__all__ = ["BUILT_IN", "Segmenter", "SegmenterError", "load", "names"]
