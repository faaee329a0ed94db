"""What became of a corpus: what is in its shards, and how many documents were rejected or filtered, and why."""

import json
import re
from collections.abc import Mapping
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from infra.shard_output import REJECTED, ShardOutput
from pipeline.errors import ShardError
from pipeline.manifest import Manifest

_NOT_IN_METRIC_NAMES = re.compile(r"[^\w.\- ]+")
_LONGEST_METRIC_NAME = 200


def metrics(manifest: Manifest) -> dict[str, float]:
    """The figures of a manifest: `train/documents`, ..., `rejected`, `rejected/<reason>`, `filtered/<filter>`."""
    found: dict[str, float] = {}
    for split, totals in manifest.totals.items():
        found[f"{split}/documents"] = totals.documents
        found[f"{split}/sentences"] = totals.sentences
        found[f"{split}/tokens"] = totals.tokens
        found[f"{split}/bytes"] = totals.num_bytes
        found[f"{split}/lossy_documents"] = totals.lossy_documents
    found["bytes_read"] = sum(file.num_bytes for file in manifest.identity.inputs)
    found["bytes_written"] = sum(shard.file_bytes for shard in manifest.shards)
    found["rejected"] = sum(manifest.rejected.values())
    for prefix, counts in (("rejected", manifest.rejected), ("filtered", manifest.filtered)):
        for reason, count in counts.items():
            name = _metric_name(prefix, reason)
            found[name] = found.get(name, 0) + count
    return found


def _metric_name(prefix: str, reason: str) -> str:
    """A name that MLflow takes: a reason may quote the name of a field, which may be anything."""
    allowed = " ".join(_NOT_IN_METRIC_NAMES.sub(" ", reason).split())[:_LONGEST_METRIC_NAME].strip(" .")
    return f"{prefix}/{allowed or 'other'}"


def figures(metrics: Mapping[str, float]) -> list[tuple[str, str]]:
    """Name and value of each line of a table over a whole run."""
    rows = [
        (f"corpus {name} ({split})", f"{metrics[f'{split}/{name}']:,.0f}")
        for name in ("documents", "sentences", "tokens", "bytes")
        for split in ("train", "dev")
    ]
    for key, value in metrics.items():
        kind, _, reason = key.partition("/")
        if reason and kind in ("rejected", "filtered"):
            rows.append((f"corpus {kind}: {reason}", f"{value:,.0f}"))
    lossy = sum(metrics.get(f"{split}/lossy_documents", 0) for split in ("train", "dev"))
    if lossy:
        rows.append(("corpus documents that the tokenizer changes", f"{lossy:,.0f}"))
    return rows


def show(output: str, console: Console | None = None) -> None:
    """Print what is in the shards of a finished job, and what was rejected or filtered: by reason, with the first.

    Raises `ShardError` where `output` holds no finished shards.
    """
    folder = ShardOutput(output)
    manifest = folder.manifest()
    if manifest is None:
        raise ShardError(f"{output} holds no finished shards; run `sllm prepare`")
    console = console or Console()
    console.print(_totals(output, manifest))
    counts = {**_keyed(manifest.filtered, is_filtered=True), **_keyed(manifest.rejected, is_filtered=False)}
    if not counts:
        console.print("no document was rejected or filtered", highlight=False)
        return
    console.print(_set_aside(counts, _first_of_each(folder.folder.read(REJECTED) or b"", set(counts))))
    path = Text(f"all of them: {output.rstrip('/')}/{REJECTED}")
    console.print(path, soft_wrap=True, highlight=False)


def _totals(output: str, manifest: Manifest) -> Table:
    table = Table(title=Text(f"sllm prepare: {output}"), title_justify="left")
    table.add_column("")
    for split in manifest.totals:
        table.add_column(split, justify="right")
    shards = {split: [one for one in manifest.shards if one.split == split] for split in manifest.totals}
    read = {
        split: sum(one.num_bytes for one in manifest.identity.inputs if one.is_dev == (split == "dev"))
        for split in manifest.totals
    }
    rows = {
        "bytes read": read,
        "documents": {split: totals.documents for split, totals in manifest.totals.items()},
        "sentences": {split: totals.sentences for split, totals in manifest.totals.items()},
        "tokens": {split: totals.tokens for split, totals in manifest.totals.items()},
        "bytes of text": {split: totals.num_bytes for split, totals in manifest.totals.items()},
        "bytes of shards": {split: sum(one.file_bytes for one in shards[split]) for split in shards},
    }
    if any(totals.lossy_documents for totals in manifest.totals.values()):
        rows["documents that the tokenizer changes"] = {
            split: totals.lossy_documents for split, totals in manifest.totals.items()
        }
    for name, by_split in rows.items():
        table.add_row(name, *(f"{value:,}" for value in by_split.values()))
    return table


_Key = tuple[bool, str]
"""Whether a filter dropped it, and the filter or the reason."""


def _keyed(counts: Mapping[str, int], is_filtered: bool) -> dict[_Key, int]:
    return {(is_filtered, reason): count for reason, count in counts.items()}


def _first_of_each(rejected: bytes, wanted: set[_Key]) -> dict[_Key, dict[str, Any]]:
    """The first row of `rejected.jsonl` of each kind."""
    first: dict[_Key, dict[str, Any]] = {}
    for line in rejected.splitlines():
        row = json.loads(line)
        first.setdefault((row["is_filtered"], row["reason"]), row)
        if len(first) == len(wanted):
            break
    return first


def _set_aside(counts: Mapping[_Key, int], first: Mapping[_Key, Mapping[str, Any]]) -> Table:
    table = Table()
    table.add_column("rejected, or filtered by")
    table.add_column("documents", justify="right")
    table.add_column("the first", overflow="fold")
    for key, count in counts.items():
        is_filtered, reason = key
        example = first.get(key)
        shown = ""
        if example is not None:
            detail = f" ({example['detail']})" if example["detail"] else ""
            shown = f"{example['file']}, {example['position']}{detail}"
        table.add_row(Text(f"filter {reason}" if is_filtered else reason), f"{count:,}", Text(shown))
    return table
