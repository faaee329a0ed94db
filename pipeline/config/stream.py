"""How shards become the stream of training data."""

from pydantic import Field

from pipeline.config.paths import MachinePathString
from pipeline.config.section import Bytes, Count, CountOrZero, Section, Share


class StreamConfig(Section):
    """Order, reading ahead, and the cache of remote shards."""

    block_tokens: Bytes = 2**28
    """Document tokens that are shuffled together: whole shards, in a random order, until they hold this many. It bounds
    the memory of the plan (about 0.4 bytes per token, more for tiny documents) and the remote shards that must be in
    the cache at once."""
    packing_pool_windows: Count = 8192
    """Windows that are packed together. With more, micro-batches are fuller and resuming takes longer."""
    weights: tuple[Share, ...] | None = Field(default=None, min_length=1)
    """Relative share of tokens from each of several `shards`; none: by their size."""
    prefetch_steps: CountOrZero = 2
    """Steps whose batches a thread makes ahead of training; 0: none."""
    stall_seconds: float = Field(default=600.0, gt=0, le=1e9)
    """Seconds without a batch after which training ends with an error."""
    cache: MachinePathString = "~/.cache/sllm/shards"
    """Folder on each machine for copies of shards and models at URLs."""
    cache_bytes: Bytes = 32 * 2**30
    """Largest number of bytes of remote shards kept there; the least recently used are removed first."""
