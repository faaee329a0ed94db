"""Counts and lengths of a folder of shards."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.shards.format import SplitName
from pipeline.shards.reading import Shards

SPLITS: tuple[SplitName, ...] = ("train", "dev")
PERCENTILES = (1, 10, 50, 90, 99)


def shard_summary(shards: Shards, damaged: set[str]) -> dict[str, Any]:
    """Counts and lengths, for JSON; no lengths where a shard of the split is `damaged`."""
    manifest = shards.manifest
    splits: dict[str, Any] = {}
    for split in SPLITS:
        totals = manifest.totals[split].model_dump()
        if totals["documents"] and not any(name.startswith(split) for name in damaged):
            documents = shards.documents(split)
            totals["sentence_tokens"] = _summary(documents.sentence_lengths)
            totals["document_tokens"] = _summary(documents.token_counts_N)
            totals["document_sentences"] = _summary(documents.sentence_counts_N)
        splits[split] = totals
    return {
        "digest": manifest.digest,
        "segmenter": manifest.segmenter,
        "tokenizer_digest": manifest.tokenizer_digest,
        "max_sentence_tokens": manifest.max_sentence_tokens,
        "inputs": [source.model_dump() for source in manifest.identity.inputs],
        "shards": len(manifest.shards),
        "rejected": manifest.rejected,
        "splits": splits,
    }


def _summary(lengths: NDArray[Any]) -> dict[str, Any]:
    edges = _edges(int(lengths.max()))
    counts, _ = np.histogram(lengths, [*edges, edges[-1] * 2])
    return {
        "mean": float(lengths.mean()),
        "max": int(lengths.max()),
        "percentiles": {str(p): float(np.percentile(lengths, p)) for p in PERCENTILES},
        "histogram": {str(edge): int(count) for edge, count in zip(edges, counts, strict=True)},
    }


def _edges(largest: int) -> list[int]:
    """Edges of bins that double in width: 1, 2, 4, 8 ..."""
    return [1 << power for power in range(largest.bit_length())]
