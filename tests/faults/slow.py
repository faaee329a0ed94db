"""A segmenter that takes its time, so that there is a moment to strike, and memory, so that it can lack.

Sleeping leaves the cores to others, and memory that is not written to takes no room.
"""

import dataclasses
import time

from segmenters.contract import Ends
from segmenters.punctuation import Punctuation

SECONDS, BYTES = 0.2, 64 * 2**20


@dataclasses.dataclass(frozen=True)
class Slow(Punctuation):
    """`punctuation_v1`, a fifth of a second later."""

    name = "slow_v1"

    def split(self, texts: list[str]) -> list[Ends]:
        """See `Segmenter.split`."""
        time.sleep(SECONDS)
        bytearray(BYTES)
        return super().split(texts)
