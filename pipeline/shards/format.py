"""Sentence shards on disk: Arrow IPC files, one row per document, read by memory map.

    train-00000.arrow ...   doc_id: string, tokens: list<int32>, sentence_lengths: list<int32>, num_bytes: int64
    dev-00000.arrow ...     the same schema; the number is that of the work unit that a shard was made from
    manifest.json           `manifest.Manifest`
    tokenizer/              a Hugging Face fast tokenizer
    rejected.jsonl          what was rejected or filtered: file, position, reason

`datasets.load_dataset("arrow", data_files=...)`, pyarrow and polars read the shards as they are.
"""

from typing import Literal

import pyarrow as pa

SplitName = Literal["train", "dev"]

SCHEMA = pa.schema(
    [
        ("doc_id", pa.string()),
        ("tokens", pa.list_(pa.int32())),
        ("sentence_lengths", pa.list_(pa.int32())),
        ("num_bytes", pa.int64()),
    ]
)

OWN_IDS_LIKE_MADE = "own_ids_like_made"
"""Key of a shard's metadata: rows whose own ids look like made ids, if there are any."""
TOKENIZER_FOLDER = "tokenizer"
TOKENIZER_FILES = ("tokenizer.json", "tokenizer_config.json")
REJECTED = "rejected.jsonl"
