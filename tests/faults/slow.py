"""A segmenter that takes its time, so that there is a moment to strike. Sleeping leaves the cores to others."""

import dataclasses
import time

from segmenters.contract import Ends
from segmenters.punctuation import Punctuation

SECONDS = 0.2


@dataclasses.dataclass(frozen=True)
class Slow(Punctuation):
    """`punctuation_v1`, a fifth of a second later."""

    name = "slow_v1"

    def split(self, texts: list[str]) -> list[Ends]:
        """See `Segmenter.split`."""
        time.sleep(SECONDS)
        return super().split(texts)
