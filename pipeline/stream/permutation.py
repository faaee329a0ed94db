"""A pseudo-random order of any number of items, in constant memory."""

import numpy as np
from numpy.typing import NDArray

from pipeline.stream.windows import Int64


def permute(index: Int64, size: int, key: tuple[int, ...]) -> Int64:
    """A pseudo-random bijection of range(size), evaluated at each element of `index`.

    A four-round Feistel network on the next even number of bits; values outside the range are permuted again ("cycle
    walking", Black and Rogaway 2002, https://doi.org/10.1007/3-540-45760-7_9).
    """
    if size <= 1:
        return index
    half_bits = np.uint64((int(size - 1).bit_length() + 1) // 2)
    mask = np.uint64((1 << int(half_bits)) - 1)
    round_keys = np.random.Generator(np.random.Philox(list(key))).integers(0, 2**63, 4, dtype=np.uint64)
    out = index.astype(np.uint64)
    walking = np.ones(len(out), bool)
    while walking.any():
        left, right = out[walking] >> half_bits, out[walking] & mask
        for round_key in round_keys:
            left, right = right, left ^ (_mix(right ^ round_key) & mask)
        out[walking] = left << half_bits | right
        walking = out >= np.uint64(size)
    return out.astype(np.int64)


def _mix(x: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """The finalizer of splitmix64 (https://doi.org/10.1145/2714064.2660195)."""
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return x ^ (x >> np.uint64(31))
