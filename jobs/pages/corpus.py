"""What pages show of a folder of shards: counts, lengths, rejections, and documents with their sentences."""

import dataclasses
import json
from typing import Any

import numpy as np
from markupsafe import Markup

from infra.storage import Folder
from jobs.pages.charts import Series, doubling_bins, histogram
from jobs.pages.rendering import render
from jobs.pages.sentences import ShownDocument, extremes, knows_cuts, sampled, shown_document
from jobs.reports.corpus_summary import rejection_rows
from pipeline.redaction import redacted
from pipeline.shards.format import SplitName
from pipeline.shards.reading import Shards

FILES_SHOWN = 50
_SPLIT_COLORS = {"train": 0, "dev": 1}


@dataclasses.dataclass(frozen=True)
class CorpusView:
    """The parts of a page about shards."""

    folder: str
    facts: list[tuple[str, str]]
    totals: list[tuple[str, list[str]]]
    """Rows of the table of counts: name, and a cell per split."""
    splits: list[str]
    charts: list[tuple[str, Markup, str]]
    """Title, histogram, and a sentence about it."""
    legend: list[Series]
    rejections: list[tuple[str, int, str]]
    """Reason, documents, and the first of them."""
    files: list[tuple[str, int, bool]]
    """Path, bytes of text, and whether it is a dev file; the first of them."""
    num_files: int
    knows_cuts: bool
    limit: int


def corpus_view(shards: Shards, summary: dict[str, Any]) -> CorpusView:
    """From the shards and what `shard_summary` says of them."""
    splits = [split for split, one in summary["splits"].items() if one["documents"]]
    totals = [
        (name, [f"{summary['splits'][split][key]:,}" for split in splits])
        for name, key in (
            ("documents", "documents"),
            ("sentences", "sentences"),
            ("tokens", "tokens"),
            ("bytes of text", "num_bytes"),
        )
    ]
    for name, over, under in (
        ("tokens per sentence", "tokens", "sentences"),
        ("bytes per token", "num_bytes", "tokens"),
        ("sentences per document", "sentences", "documents"),
    ):
        ratios = [
            summary["splits"][split][over] / max(1, summary["splits"][split][under]) for split in splits
        ]
        totals.append((name, [f"{ratio:.2f}" for ratio in ratios]))
    inputs = shards.manifest.identity.inputs
    segmenter = summary["segmenter"]
    options = {key: value for key, value in (segmenter.get("options") or {}).items() if value is not None}
    facts = [
        ("segmenter", str(segmenter.get("name"))),
        ("its options", redacted(json.dumps(options, ensure_ascii=False)) if options else "none"),
        ("limit of a sentence", f"{summary['max_sentence_tokens']:,} tokens"),
        ("tokenizer", f"{summary['tokenizer_digest'][:12]}, {shards.tokenizer().vocab_size:,} tokens"),
        ("digest of the shards", summary["digest"]),
    ]
    if weights := segmenter.get("weights"):
        facts.insert(2, ("its weights", weights))
    return CorpusView(
        folder=redacted(shards.folder),
        facts=facts,
        totals=totals,
        splits=splits,
        charts=_charts(summary, splits),
        legend=[Series(split, (), color=_SPLIT_COLORS[split]) for split in splits],
        rejections=rejection_rows(Folder(shards.folder), shards.manifest),
        files=[(redacted(one.path), one.num_bytes, one.is_dev) for one in inputs[:FILES_SHOWN]],
        num_files=len(inputs),
        knows_cuts=knows_cuts(shards),
        limit=int(summary["max_sentence_tokens"]),
    )


def _charts(summary: dict[str, Any], splits: list[str]) -> list[tuple[str, Markup, str]]:
    found = []
    for key, thing in (("sentence_tokens", "sentence"), ("document_tokens", "document")):
        lengths = {
            split: summary["splits"][split][key] for split in splits if key in summary["splits"][split]
        }
        if not lengths:
            continue
        bins = doubling_bins([one["histogram"] for one in lengths.values()])
        said = "; ".join(
            f"{split}: median {one['percentiles']['50']:,.0f}, 99 % up to {one['percentiles']['99']:,.0f}, "
            f"longest {one['max']:,}"
            for split, one in lengths.items()
        )
        chart = histogram(bins, f"tokens in a {thing}", list(lengths))
        found.append((f"Tokens in a {thing}", chart, said))
    return found


def sample(
    shards: Shards, split: SplitName, count: int, most_sentences: int, with_extremes: bool = False
) -> list[ShownDocument]:
    """Documents of a split with their sentences: `count` at equal distances, and the longest ones if asked.

    Of the document with the longest sentence that sentence is among the shown ones.
    """
    documents = shards.documents(split)
    chosen = dict.fromkeys(sampled(documents, count), "")
    if with_extremes:
        chosen |= extremes(documents)
    found = []
    for index, why in chosen.items():
        starts = documents.sentence_starts_N1
        lengths = documents.sentence_lengths[starts[index] : starts[index + 1]]
        longest = int(np.argmax(lengths)) if "longest sentence" in why else 0
        first = max(0, longest - most_sentences // 2) if longest >= most_sentences else 0
        found.append(shown_document(shards, documents, index, why, most_sentences, first))
    return found


def shards_page(shards: Shards, summary: dict[str, Any], count: int, most_sentences: int = 240) -> bytes:
    """The page of `sllm inspect --html`: `count` documents, the longest one and that with the longest sentence."""
    damaged: list[str] = summary["damaged"] or []
    split: SplitName = "train" if shards.manifest.totals["train"].documents else "dev"
    is_sampled = not damaged and shards.manifest.totals[split].documents > 0
    documents = sample(shards, split, count, most_sentences, with_extremes=True) if is_sampled else []
    return render(
        "shards.html",
        title=f"Shards: {redacted(shards.folder)}",
        view=corpus_view(shards, summary),
        damaged=damaged,
        is_verified=summary["damaged"] is not None,
        num_shards=summary["shards"],
        documents=documents,
        split=split,
        num_sentences=sum(len(one.sentences) for one in documents),
        num_cut=sum(one.num_cut for one in documents),
    )
