"""`sllm inspect`: the content of a folder of shards, the lengths of its sentences, and its checksums."""

import json
import re
from pathlib import PurePosixPath
from typing import Annotated, Any

import numpy as np
import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

from jobs.reports.shard_summary import SPLITS, shard_summary
from jobs.runner.console import say
from jobs.runner.output.file import opened_output
from jobs.runner.printable_console import PrintableConsole
from jobs.runner.progress import WorkProgress
from pipeline.config.paths import PATH, is_url
from pipeline.errors import ConfigError, ShardError
from pipeline.shards.documents import Documents
from pipeline.shards.reading import Shards, open_shards
from pipeline.tokenization.tokenizer import Tokenizer

SAMPLES, SAMPLES_ON_PAGE = 2, 6
"""Documents shown in the terminal and on a page."""
SAMPLE_SENTENCES = 12
"""Sentences shown per sample."""


def command(
    shards: Annotated[str, typer.Argument(help="Folder or URL of shards."), PATH],
    samples: Annotated[
        int | None,
        typer.Option(
            "--samples",
            min=0,
            help="Documents to show with their sentences: by default 2, and 6 on a page.",
            show_default=False,
        ),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
    plot: Annotated[
        str | None,
        typer.Option("--plot", metavar="FILE", help="Draw the histograms: .png, .svg or .pdf."),
        PATH,
    ] = None,
    html: Annotated[
        str | None,
        typer.Option("--html", metavar="PAGE", help="Write an HTML page with sentences in colour."),
        PATH,
    ] = None,
    no_verify: Annotated[bool, typer.Option("--no-verify", help="Do not read every shard.")] = False,
) -> None:
    """Arguments of `sllm inspect`."""
    show(shards, samples, as_json, plot, verify=not no_verify, html=html)


def show(
    folder: str,
    samples: int | None = None,
    as_json: bool = False,
    plot: str | None = None,
    verify: bool = True,
    html: str | None = None,
) -> None:
    """Print counts, lengths, `samples` documents with their sentences, and the result of the checksums; or write them
    to the page `html`.

    `plot` is a file for the histograms (`.png`, `.svg` or `.pdf`). Raises `ShardError` where the shards are damaged;
    `verify` reads every byte.
    """
    shards = open_shards(folder, verify=False)  # all of them, not only those that are read
    damaged = _damaged(shards) if verify else []
    report = {"damaged": damaged if verify else None} | shard_summary(shards, set(damaged))
    if plot is not None:
        _plot(shards, plot)
    if html is not None:
        from jobs.pages.corpus import shards_page

        page = shards_page(shards, report, SAMPLES_ON_PAGE if samples is None else samples)
        with opened_output(html) as file:
            file.write(page)
        say(f"{html}: {len(page):,} bytes")
    if as_json:
        print(json.dumps(report, indent=1))
    elif html is None:
        _print(shards, report, SAMPLES if samples is None else samples)
    if damaged:
        remedy = (
            "delete them there and run `sllm prepare` again" if is_url(folder) else "run `sllm prepare` again"
        )
        raise ShardError(
            f"{', '.join(damaged)} in {folder!r}: checksum differs from the manifest; {remedy}, it makes just these "
            f"anew"
        )


def _damaged(shards: Shards) -> list[str]:
    """The files of damaged shards."""
    with WorkProgress("inspect", "bytes") as progress:
        done = progress.begin("verify", sum(record.file_bytes for record in shards.manifest.shards))
        return [record.file for record in shards.damaged(lambda record: done(record.file_bytes))]


def _print(shards: Shards, report: dict[str, Any], samples: int) -> None:
    console = PrintableConsole()
    table = Table(title=Text(shards.folder), title_justify="left")
    table.add_column("")
    for split in SPLITS:
        table.add_column(split, justify="right")
    for key in ("documents", "sentences", "tokens", "num_bytes"):
        table.add_row(key, *(f"{report['splits'][split][key]:,}" for split in SPLITS))
    for key, over, under in (
        ("bytes per token", "num_bytes", "tokens"),
        ("tokens per sentence", "tokens", "sentences"),
    ):
        ratios = [report["splits"][split][over] / max(1, report["splits"][split][under]) for split in SPLITS]
        table.add_row(key, *(f"{ratio:.2f}" for ratio in ratios))
    console.print(table)
    console.print(f"segmenter {json.dumps(report['segmenter'])}", markup=False, highlight=False)
    console.print(
        f"tokenizer {report['tokenizer_digest'][:12]}, digest {report['digest'][:12]}",
        markup=False,
        highlight=False,
    )
    if report["rejected"]:
        reasons = ", ".join(f"{count} {reason}" for reason, count in report["rejected"].items())
        console.print(f"rejected: {reasons} (see rejected.jsonl)", markup=False, highlight=False)
    for split in SPLITS:
        for key in ("sentence_tokens", "document_tokens"):
            if summary := report["splits"][split].get(key):
                _print_histogram(console, f"{split}, tokens in a {key.removesuffix('_tokens')}:", summary)
    if samples and not report["damaged"]:
        tokenizer = shards.tokenizer()
        documents = shards.documents("train" if report["splits"]["train"]["documents"] else "dev")
        for index in np.linspace(0, documents.num_documents - 1, samples).astype(int).tolist():
            _print_sample(console, documents, index, tokenizer)
    if report["damaged"] is not None and not report["damaged"]:
        console.print(f"all {report['shards']} shards are intact (SHA-256)", style="green", highlight=False)


def _print_histogram(console: Console, title: str, summary: dict[str, Any]) -> None:
    percentiles = ", ".join(f"{p}%: {value:.0f}" for p, value in summary["percentiles"].items())
    figures = f"  mean {summary['mean']:.1f}, {percentiles}, max {summary['max']}"
    console.print(Text.assemble("\n", (title, "bold"), figures))
    most = max(summary["histogram"].values())
    for edge, count in summary["histogram"].items():
        last = 2 * int(edge) - 1
        name = edge if int(edge) == last else f"{edge}-{last}"
        console.print(f"{name:>15} {'█' * round(40 * count / most):40} {count:,}", highlight=False)


def _print_sample(console: Console, documents: Documents, index: int, tokenizer: Tokenizer) -> None:
    starts = documents.sentence_starts_N1
    lengths = documents.sentence_lengths[starts[index] : starts[index + 1]]
    start = int(documents.token_starts_N1[index])
    doc_id = Text(documents.doc_ids(index), style="bold")
    console.print(Text.assemble("\n", doc_id, f": the first of {len(lengths)} sentences"))
    for number, length in enumerate(lengths[:SAMPLE_SENTENCES].tolist()):
        text = tokenizer.decode(documents.tokens(start, start + length))
        start += length
        # Line breaks are shown as a character, so that each line is a sentence.
        shown = re.sub(r"\n", "⏎", text)
        console.print(Text(f"{length:>5} │{shown}│", style="cyan" if number % 2 else ""), soft_wrap=True)


def _plot(shards: Shards, file: str) -> None:
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(1, 2, figsize=(10, 4), layout="constrained")
    for split in SPLITS:
        documents = shards.documents(split)
        if documents.num_documents == 0:
            continue
        sentence_lengths = documents.sentence_lengths
        axes[0].hist(
            sentence_lengths, np.arange(1, sentence_lengths.max() + 2), density=True, alpha=0.6, label=split
        )
        counts = documents.token_counts_N
        bins = np.geomspace(1, counts.max() + 1, 50)
        axes[1].hist(counts, bins, density=False, alpha=0.6, label=split)
    axes[0].set(xlabel="tokens in a sentence", ylabel="share of sentences")
    axes[1].set(xlabel="tokens in a document", ylabel="documents", xscale="log")
    for axis in axes:
        axis.legend()
    try:
        with opened_output(file) as drawn:
            figure.savefig(drawn, format=PurePosixPath(file).suffix[1:] or "png")
    except (ValueError, OSError) as error:
        raise ConfigError(f"the histograms cannot be written to {file!r}: {error}") from error
    finally:
        pyplot.close(figure)
