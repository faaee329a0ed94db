"""Packing of the windows of a pool into full micro-batches of windows of similar length."""

from bisect import bisect_left

import numpy as np

from pipeline.stream.windows import Int64

LENGTH_RATIO = 1.1
"""Windows that share a micro-batch differ in length by less than this factor, so that they need little padding."""
MIXED_PADDING = 0.06
"""Windows of all lengths are mixed if this needs no larger share of padding. Short windows are ends of documents: in
micro-batches of their own, the ends would all be in a few micro-batches."""


def pack(tokens_P: Int64, length_P: Int64, micro_batch_tokens: int) -> list[list[int]]:
    """Micro-batches of the P windows of a pool, as indexes into the pool; each window is in one of them.

    A micro-batch takes windows in the order of the pool while there is room for two of the largest left, then
    repeatedly the largest that fits. So it is full, and still a sample of all sizes. (If windows were sorted by size, a
    micro-batch would hold one kind of text: the gradient is noisier, and the model worse at equal tokens.) Where
    lengths differ too much to be mixed, windows are packed by classes of similar `length_P` (each at least 1), long
    ones first; an open micro-batch at the end of a class is filled from the next class. A window above
    `micro_batch_tokens` is a micro-batch of its own.
    """
    index_bits = len(tokens_P).bit_length()
    class_P = np.floor(np.log(length_P) / np.log(LENGTH_RATIO)).astype(np.int64)
    if length_P.sum() >= (1 - MIXED_PADDING) * len(length_P) * length_P.max():
        class_P[:] = 0
    # One sorted list of integers per class, the size in the high bits and the index in the low bits.
    key_P = tokens_P << index_bits | np.arange(len(tokens_P))
    order = np.lexsort((key_P, -class_P))
    packed: list[list[int]] = []
    taken: list[int] = []
    room = micro_batch_tokens
    for keys in np.split(key_P[order], np.flatnonzero(np.diff(class_P[order])) + 1):
        left = keys.tolist()
        in_order = key_P[np.sort(keys & (1 << index_bits) - 1)[::-1]].tolist()
        gone: set[int] = set()  # taken before their turn
        while left:
            if room >= 2 * (left[-1] >> index_bits):
                while (key := in_order.pop()) in gone:
                    pass
                del left[bisect_left(left, key)]
            else:
                fits = bisect_left(left, room + 1 << index_bits) if taken else len(left)
                if not fits:
                    packed.append(taken)
                    taken, room = [], micro_batch_tokens
                    continue
                key = left.pop(fits - 1)
                gone.add(key)
            taken.append(key & (1 << index_bits) - 1)
            room -= key >> index_bits
    return [*packed, taken] if taken else packed
