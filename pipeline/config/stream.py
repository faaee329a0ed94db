"""How shards become the stream of training data."""

from pydantic import Field, PositiveFloat

from pipeline.config.paths import MachinePathString
from pipeline.config.section import Section


class StreamConfig(Section):
    """Order, reading ahead, and the cache of remote shards."""

    block_tokens: int = Field(default=2**28, ge=1)
    """Document tokens that are shuffled together: whole shards, in a random order, until they hold this many. It
    bounds the plan's memory (about 0.4 bytes a token, more for tiny documents) and, of remote shards, what must be in
    the cache at once."""
    pool_windows: int = Field(default=8192, ge=1)
    """Windows that are packed together: more fill micro-batches better, and cost time to resume."""
    weights: tuple[PositiveFloat, ...] | None = None
    """Share of the tokens that each of several `shards` gives, relative to the others; none: by their size."""
    prefetch_steps: int = Field(default=2, ge=0)
    """Steps whose batches are made ahead of training, by a thread; 0: none."""
    stall_seconds: float = Field(default=600.0, gt=0)
    """Seconds without a batch after which training ends with an error."""
    cache: MachinePathString = "~/.cache/sllm/shards"
    """Folder on each machine for copies of remote shards (`shards` is an fsspec URL)."""
    cache_bytes: int = Field(default=32 * 2**30, gt=0)
    """Bytes of remote shards kept there, at most; the least recently used ones go first."""
