"""Sets of offsets as sorted arrays: faster than those of numpy, which hash or sort both sides.

Shape suffixes: S values that are looked up.
"""

import numpy as np

from segmenters.contract import Ends
from segmenters.rules.words import Mask


def merged(*parts: Ends) -> Ends:
    """All offsets of the parts, once each, in increasing order."""
    offsets = np.sort(np.concatenate(parts))
    return offsets[np.append(True, offsets[1:] != offsets[:-1])] if len(offsets) else offsets


def contains(offsets: Ends, value_S: Ends) -> Mask:
    """Whether each value is one of these increasing offsets."""
    if not len(offsets):
        return np.zeros(len(value_S), np.bool_)
    return offsets[np.minimum(np.searchsorted(offsets, value_S), len(offsets) - 1)] == value_S
