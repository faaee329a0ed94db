"""Which windows of a pool share a micro-batch: full ones, of windows of like length."""

from bisect import bisect_left

import numpy as np

from pipeline.stream.windows import Int64

LENGTH_RATIO = 1.1
"""Windows that share a micro-batch differ in length by less than this factor, so their rows need little padding..."""
MIXED_PADDING = 0.06
"""... but where all lengths together need no more than this share of padding, they are mixed. Short windows are the
ends of documents: in micro-batches of their own, each document would end there and none elsewhere."""


def pack(tokens_P: Int64, length_P: Int64, micro_batch_tokens: int) -> list[list[int]]:
    """Micro-batches of the P windows of a pool, as places in the pool; each window is in one of them.

    A micro-batch takes windows in the order of the pool while there is room for two of the largest left, then again and
    again the largest that still fits: so it is full, and yet a sample of all sizes. (Of windows sorted by size, one
    micro-batch would be tables and the next one headings: a noisier gradient, and at the same tokens a worse model.)
    Where lengths differ too much to be mixed, windows are taken class by class of like `length_P` (each at least 1),
    long ones first; what is open at the end of a class is filled from the next one. A window above
    `micro_batch_tokens` stands alone.
    """
    place_bits = len(tokens_P).bit_length()
    class_P = np.floor(np.log(length_P) / np.log(LENGTH_RATIO)).astype(np.int64)
    if length_P.sum() >= (1 - MIXED_PADDING) * len(length_P) * length_P.max():
        class_P[:] = 0
    # One sorted list of integers a class, size above place: a search and a removal are each one call in C.
    key_P = tokens_P << place_bits | np.arange(len(tokens_P))
    order = np.lexsort((key_P, -class_P))
    packed: list[list[int]] = []
    taken: list[int] = []
    room = micro_batch_tokens
    for keys in np.split(key_P[order], np.flatnonzero(np.diff(class_P[order])) + 1):
        left = keys.tolist()
        in_order = key_P[np.sort(keys & (1 << place_bits) - 1)[::-1]].tolist()
        gone: set[int] = set()  # out of their turn
        while left:
            if room >= 2 * (left[-1] >> place_bits):
                while (key := in_order.pop()) in gone:
                    pass
                del left[bisect_left(left, key)]
            else:
                fits = bisect_left(left, room + 1 << place_bits) if taken else len(left)
                if not fits:
                    packed.append(taken)
                    taken, room = [], micro_batch_tokens
                    continue
                key = left.pop(fits - 1)
                gone.add(key)
            taken.append(key & (1 << place_bits) - 1)
            room -= key >> place_bits
    return [*packed, taken] if taken else packed
