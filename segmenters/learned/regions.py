"""Splitting by kind of text: prose by a segmenter, code and tables by rules."""

from collections.abc import Callable

import numpy as np

from segmenters.batching import split_batched
from segmenters.contract import Ends
from segmenters.learned.logical_lines import structured_ends
from segmenters.learned.structure import Structure, regions


def split_regions(
    texts: list[str], prose_starts: Callable[[str, Ends], Ends], unspaced_prose: bool = False
) -> list[Ends]:
    """The ends of each text; `prose_starts` finds where sentences begin in batches of prose (see `split_batched`).

    For `unspaced_prose` see `count_code_lines`.
    """
    stretches = [
        (number, region) for number, text in enumerate(texts) for region in regions(text, unspaced_prose)
    ]
    prose = [texts[n][r.start : r.end] for n, r in stretches if r.structure is Structure.PROSE]
    prose_ends = iter(split_batched(prose, prose_starts))
    found: list[list[Ends]] = [[] for _ in texts]
    for number, region in stretches:
        if region.structure is Structure.PROSE:
            inner = next(prose_ends)
        else:
            inner = structured_ends(texts[number][region.start : region.end], region.structure)
        found[number].append(inner + region.start)
    return [np.concatenate([np.empty(0, np.int64), *part]) for part in found]
