"""Verbs of the console that look at what is there, or at what it would cost."""

import sys
from typing import Annotated

import typer

from jobs.runner.arguments import ConfigPath, Overrides, config_and_overrides, loaded
from pipeline.config.paths import PATH, resolved_tracking_uri


def lineage(
    path: Annotated[str, typer.Argument(help="A model, shards, a report, or a corpus file."), PATH],
    tracking: Annotated[
        str | None, typer.Option("--tracking", metavar="URI", help="MLflow store, where job.json names none.")
    ] = None,
    forward: Annotated[
        bool, typer.Option("--forward", help="Show what was made from it, also where a job made it.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print the tree as JSON.")] = False,
) -> None:
    """Show what a result was made from, back to the corpus files; for a corpus file, what was made from it.

    \b
    Examples:
      sllm lineage runs/demo/sllm
      sllm lineage corpus/books.jsonl.gz --json
    """
    from jobs.lineage import show

    show(path, None if tracking is None else resolved_tracking_uri(tracking), as_json, forward)


def inspect(
    shards: Annotated[str, typer.Argument(help="Folder or URL of shards."), PATH],
    samples: Annotated[
        int, typer.Option("--samples", min=0, help="Documents to show with their sentences.")
    ] = 2,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
    plot: Annotated[
        str | None,
        typer.Option("--plot", metavar="FILE", help="Draw the histograms: .png, .svg or .pdf."),
        PATH,
    ] = None,
    no_verify: Annotated[bool, typer.Option("--no-verify", help="Do not read every shard.")] = False,
) -> None:
    """Show what a folder of sentence shards holds and what it was made with, and check every checksum.

    \b
    Example:
      sllm inspect runs/demo/shards
    """
    from jobs.inspect import show

    show(shards, samples, as_json, plot, verify=not no_verify)


def segment(
    source: Annotated[
        str | None, typer.Argument(metavar="IN", help="JSONL file with `id` and `text`."), PATH
    ] = None,
    segmenter: Annotated[
        str, typer.Option("--segmenter", metavar="NAME", help="See --list.")
    ] = "punctuation_v1",
    option: Annotated[
        list[str] | None, typer.Option("--option", metavar="KEY=VALUE", help="An option of the segmenter.")
    ] = None,
    output: Annotated[
        str | None, typer.Option("--output", metavar="OUT", help="JSONL file with `id` and `ends`."), PATH
    ] = None,
    list_all: Annotated[bool, typer.Option("--list", help="List the segmenters and stop.")] = False,
    compare: Annotated[
        str | None,
        typer.Option("--compare", metavar="NAME,NAME,...", help="Show the splits of IN side by side."),
    ] = None,
    html: Annotated[
        str | None, typer.Option("--html", metavar="PAGE", help="With --compare: write them as a page."), PATH
    ] = None,
) -> None:
    """Cut documents into sentences: the character offsets of their ends, exclusive.

    \b
    Examples:
      sllm segment --list
      sllm segment --segmenter spacy_v1 --option pipeline=en_core_web_sm docs.jsonl.gz --output ends.jsonl
      sllm segment --compare punctuation_v1,learned_v1 README.md --html splits.html
    """
    import jobs.segment

    if list_all:
        jobs.segment.list_segmenters()
    elif compare is not None:
        if source is None:
            raise typer.BadParameter("--compare needs IN")
        from jobs.reports.segmenter_differences import show_or_write

        show_or_write(compare.split(","), source, html)
    elif source is None or output is None:
        raise typer.BadParameter("needs IN and --output OUT, or --list")
    else:
        made = jobs.segment.segment_file(segmenter, option or [], source, output)
        print(
            f"{made.documents:,} documents, {made.characters:,} characters, {made.sentences:,} sentences -> {output}",
            file=sys.stderr,
        )
        if made.rejected:
            print(
                f"{made.rejected:,} lines rejected, which {output} lacks; the first: {made.first_rejected}",
                file=sys.stderr,
            )


def plan(
    config: ConfigPath,
    overrides: Overrides = None,
    gpus: Annotated[int, typer.Option("--gpus", min=1, help="GPUs that train together.")] = 1,
    device: Annotated[
        str, typer.Option("--device", metavar="NAME", help="h200, h100, a100, l40s, l4, v100 or cpu.")
    ] = "h100",
    peak: Annotated[
        float | None, typer.Option("--peak", metavar="FLOP/S", help="Peak of one, in place of the table's.")
    ] = None,
    utilisation: Annotated[
        float, typer.Option("--utilisation", min=0.01, max=1.0, help="Share of the peak that training gets.")
    ] = 0.4,
    tokens_per_sentence: Annotated[
        float, typer.Option("--tokens-per-sentence", min=1.0, help="Mean; `sllm inspect` knows it.")
    ] = 18.0,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """What a configuration costs before it is run: parameters, memory, FLOPs, speed, days. Reads no weights.

    \b
    Examples:
      sllm plan jobs/presets/paper/opt-1.3b-h2.yaml --gpus 8
      sllm plan jobs/presets/demo.yaml sllm.train_trunk=ends --device a100 --json
    """
    from jobs.plan import show
    from pipeline.evaluation.cost import machine

    path, changes = config_and_overrides(config, overrides)
    on = machine(gpus, device, peak, utilisation)
    show(loaded(path, changes), on, tokens_per_sentence, as_json)
