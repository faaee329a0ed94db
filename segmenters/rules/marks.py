"""Terminators and what is around them."""

from typing import NamedTuple

from segmenters.contract import Ends
from segmenters.rules.words import Mask


class Marks(NamedTuple):
    """M terminators, each the last of its run. All offsets are in the batch."""

    mark_M: Ends
    after_M: Ends
    """Offset after the tail: see `segmenters.rules.tails`."""
    next_M: Ends
    """Offset of the next character that is not white space."""
    first_M: Ends
    """The same, after opening quotes and brackets."""
    same_line_M: Mask
    """No line break that ends a sentence is before the next character."""
    closed_M: Mask
    """The tail has a closing quote or bracket."""
    spread_M: Mask
    """The tail has a full stop with a space before it: `. . .`"""
