"""The summary of a prepared corpus: the content of its shards, and the rejected and filtered documents by reason."""

import re
import sys
from collections.abc import Mapping, Sequence

from rich.console import Console
from rich.table import Table
from rich.text import Text

from infra.storage import Folder
from jobs.runner.printable_console import PrintableConsole
from pipeline.corpus import Rejection
from pipeline.errors import CorpusError, ShardError
from pipeline.lineage import JobRecord
from pipeline.printable import printable
from pipeline.redaction import redacted
from pipeline.shards.format import REJECTED
from pipeline.shards.manifest import Manifest
from pipeline.shards.output import ShardOutput
from pipeline.shards.rejections import RejectionKind, first_rejections
from pipeline.shards.store import ShardStore

_NOT_IN_METRIC_NAMES = re.compile(r"[^\w.\- ]+")
_LONGEST_METRIC_NAME = 200
MANY_EPOCHS = 16
"""Repetitions of a text from which more of them teach a model next to nothing (arXiv 2305.16264)."""
_NOTHING = "no document was rejected or filtered"


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
    """A metric name that MLflow accepts: a reason may contain the name of a field."""
    allowed = " ".join(_NOT_IN_METRIC_NAMES.sub(" ", reason).split())[:_LONGEST_METRIC_NAME].strip(" .")
    return f"{prefix}/{allowed or 'other'}"


def figures(output: str) -> list[tuple[str, str]]:
    """Name and value of each line in the summary of a run; `output` holds finished shards."""
    # From the manifest: the record of a reused job may be of a version with fewer counts.
    counts = metrics(_finished(Folder(output)))
    rows = [
        (f"corpus {name} ({split})", f"{counts[f'{split}/{name}']:,.0f}")
        for name in ("documents", "sentences", "tokens", "bytes")
        for split in ("train", "dev")
    ]
    for key, value in counts.items():
        kind, _, reason = key.partition("/")
        if reason and kind in ("rejected", "filtered"):
            rows.append((f"corpus {kind}: {reason}", f"{value:,.0f}"))
    lossy = sum(counts[f"{split}/lossy_documents"] for split in ("train", "dev"))
    if lossy:
        rows.append(("corpus documents that the tokenizer changes", f"{lossy:,.0f}"))
    return rows


def show(output: str, console: Console | None = None) -> None:
    """Print the content of the shards of a finished job, and the rejected and filtered documents by reason, with the
    first of each.

    Raises `ShardError` where `output` holds no finished shards.
    """
    folder = Folder(output)
    manifest = _finished(folder)
    console = console or PrintableConsole()
    console.print(_totals(output, manifest))
    _warn_of_losses(manifest)
    for line in _left_unread(manifest):
        console.print(line, soft_wrap=True, highlight=False)
    rows = rejection_rows(folder, manifest)
    if not rows:
        console.print(_NOTHING, highlight=False)
        return
    table = Table()
    table.add_column("rejected, or filtered by")
    table.add_column("documents", justify="right")
    table.add_column("the first", overflow="fold")
    for title, count, example in rows:
        table.add_row(Text(printable(title)), f"{count:,}", Text(printable(example)))
    console.print(table)
    console.print(Text(_where(output)), soft_wrap=True, highlight=False)


def rejection_rows(folder: ShardStore, manifest: Manifest) -> list[tuple[str, int, str]]:
    """Reason or filter, documents, and the first of them, for each kind of rejected or filtered document."""
    counts = _set_aside(manifest)
    first = first_rejections(folder, counts)
    return [(_title(kind), count, _example(first.get(kind))) for kind, count in counts.items()]


def rejection_lines(output: str) -> list[str]:
    """The first rejected or filtered document of each reason, for the summary of a run."""
    folder = Folder(output)
    rows = rejection_rows(folder, _finished(folder))
    found = [f"{title}, the first of {count:,}: {example}" for title, count, example in rows]
    return [*found, _where(output)] if found else [_NOTHING]


def check_splits(output: str, next_jobs: Sequence[str]) -> None:
    """Raise `CorpusError` where finished shards lack a split that one of these jobs needs."""
    totals = _finished(Folder(output)).totals
    documents = {str(split): one.documents for split, one in totals.items()}
    needed = {"dev"} if {"evaluate", "compare"} & set(next_jobs) else set()
    needed |= {"train"} if any(job.startswith("train-") or job == "compare" for job in next_jobs) else set()
    for split in sorted(needed):
        if not documents[split]:
            found = sum(documents.values())
            raise CorpusError(
                f"the corpus is too small: of its {found:,} document{'s' if found > 1 else ''}, none is in the {split} "
                "split. Add text; some 5,000 bytes are the least that runs, 1,000,000 or more the least to learn from. "
                "data.document_bytes=auto cuts long texts into documents, data.dev_fraction is the share of dev"
            )


def _left_unread(manifest: Manifest) -> list[str]:
    """A line where `data.max_bytes` leaves out a good part of the text."""
    limit = manifest.identity.data.get("max_bytes")
    there = sum(one.num_bytes for one in manifest.identity.inputs if not one.is_dev)
    if limit is None or there <= 1.25 * limit:
        return []
    return [
        f"data.max_bytes={limit} takes about {limit / there:.0%} of the {there:,} bytes of data.inputs; "
        "data.max_bytes=null takes all"
    ]


def notes_on_size(output: str, records: Mapping[str, JobRecord]) -> list[str]:
    """Lines where text is left out, and where it is so little that training repeated it over `MANY_EPOCHS` times."""
    manifest = _finished(Folder(output))
    notes = _left_unread(manifest)
    tokens, num_bytes = manifest.totals["train"].tokens, manifest.totals["train"].num_bytes
    seen = [record.metrics["train/tokens"] for record in records.values() if "train/tokens" in record.metrics]
    if not seen or not tokens or max(seen) <= MANY_EPOCHS * tokens:
        return notes
    return [
        *notes,
        f"the corpus is small: training read its {num_bytes:,} bytes up to {max(seen) / tokens:,.0f} times, the dev "
        f"split has {manifest.totals['dev'].num_bytes:,} bytes. The models learn it by heart; figures and text say "
        "little. With more text, from 1,000,000 bytes on, they say more",
    ]


def _finished(folder: ShardStore) -> Manifest:
    manifest = ShardOutput(folder).manifest()
    if manifest is None:
        raise ShardError(f"{folder.url} holds no finished shards; run `sllm prepare`")
    return manifest


def _totals(output: str, manifest: Manifest) -> Table:
    table = Table(title=Text(f"sllm prepare: {redacted(output)}"), title_justify="left")
    table.add_column("")
    for name in (*manifest.totals, "all"):
        table.add_column(name, justify="right")
    totals = manifest.totals
    shards = {split: [one for one in manifest.shards if one.split == split] for split in totals}
    read = {
        split: sum(one.num_bytes for one in manifest.identity.inputs if one.is_dev == (split == "dev"))
        for split in totals
    }
    rows = {
        "bytes read": read,
        "documents": {split: one.documents for split, one in totals.items()},
        "sentences": {split: one.sentences for split, one in totals.items()},
        "tokens": {split: one.tokens for split, one in totals.items()},
        "bytes of text": {split: one.num_bytes for split, one in totals.items()},
        "bytes of shards": {split: sum(one.file_bytes for one in shards[split]) for split in shards},
    }
    if any(one.lossy_documents for one in totals.values()):
        rows["documents that the tokenizer changes"] = {
            split: one.lossy_documents for split, one in totals.items()
        }
    for name, by_split in rows.items():
        # With a dev fraction, files of `data.inputs` are in both splits.
        is_apart = name != "bytes read" or not manifest.identity.data.get("dev_fraction")
        cells = [f"{value:,}" if is_apart else "" for value in by_split.values()]
        table.add_row(name, *cells, f"{sum(by_split.values()):,}")
    return table


def _warn_of_losses(manifest: Manifest) -> None:
    lossy = sum(totals.lossy_documents for totals in manifest.totals.values())
    if lossy:
        documents = sum(totals.documents for totals in manifest.totals.values())
        print(
            f"warning: of {lossy:,} of {documents:,} documents the token ids do not give the text back (characters "
            "that the tokenizer does not know, or changes): bits per byte of these shards mean nothing; a "
            "byte-level tokenizer loses nothing",
            file=sys.stderr,
        )


def _set_aside(manifest: Manifest) -> dict[RejectionKind, int]:
    """Counts by filter, then by reason of rejection."""
    counts = {(name, True): count for name, count in manifest.filtered.items()}
    return counts | {(reason, False): count for reason, count in manifest.rejected.items()}


def _title(kind: RejectionKind) -> str:
    reason, is_filtered = kind
    return f"filter {reason}" if is_filtered else reason


def _example(rejection: Rejection | None) -> str:
    if rejection is None:
        return f"{REJECTED} lacks it"
    detail = f" ({rejection.detail})" if rejection.detail else ""
    return redacted(f"{rejection.file}, {rejection.position}{detail}")


def _where(output: str) -> str:
    return redacted(f"all of them: {output.rstrip('/')}/{REJECTED}")
