"""A small corpus, and the configuration that prepares it."""

import gzip
import json
from pathlib import Path
from typing import Any

from pipeline.config import Config, load_config

ROWS = [
    {"id": f"d{i}", "text": f"Document {i}. Hello, world! " + "Some more text here. " * (i % 7)}
    for i in range(60)
]


def config_for(root: Path, *overrides: str) -> Config:
    return load_config(
        None,
        [
            f"data.inputs=[{root}/a.jsonl.gz]",
            "launcher=local",
            "prepare.num_workers=1",
            "data.dev_fraction=0.2",
            "prepare.work_unit_bytes=700",
            "tokenizer.vocab_size=300",
            *overrides,
        ],
    )


def write_rows(root: Path, rows: list[Any], name: str = "a.jsonl.gz") -> None:
    lines = [row if isinstance(row, bytes) else json.dumps(row).encode() for row in rows]
    (root / name).write_bytes(gzip.compress(b"\n".join(lines)))


def content(folder: Path) -> dict[str, bytes]:
    return {str(file.relative_to(folder)): file.read_bytes() for file in folder.rglob("*") if file.is_file()}
