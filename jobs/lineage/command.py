"""The command `sllm lineage`."""

import dataclasses
import json
from pathlib import Path
from typing import Annotated

import typer

from infra.tracking.search import RunSearch
from jobs.lineage.terminal import tree_of
from jobs.lineage.walk import store_of, walk_back, walk_forward
from jobs.runner.output_folder import artifact_at, record_at
from jobs.runner.printable_console import PrintableConsole
from pipeline.config.paths import PATH, is_url, resolved_tracking_uri
from pipeline.printable import printable

UNWRAPPED = 1000
"""Width in characters if the output is not a terminal."""


def command(
    path: Annotated[str, typer.Argument(help="A model, shards, a report, or a corpus file."), PATH],
    tracking: Annotated[
        str | None, typer.Option("--tracking", metavar="URI", help="MLflow store, where job.json names none.")
    ] = None,
    forward: Annotated[
        bool, typer.Option("--forward", help="Show what was made from it, also where a job made it.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print the tree as JSON.")] = False,
) -> None:
    """Arguments of `sllm lineage`."""
    show(path, None if tracking is None else resolved_tracking_uri(tracking), as_json, forward)


def show(path: str, tracking: str | None, as_json: bool = False, forward: bool = False) -> None:
    """Print the lineage of the artifact at `path`: backwards if a job made it; otherwise, or with `forward`, forwards.

    Raises `ConfigError` where there is nothing at `path`, or a needed store is missing.
    """
    record = record_at(path) if is_url(path) or Path(path).is_dir() else None
    artifact = artifact_at(path)
    if record is None or forward:
        step = walk_forward(artifact, RunSearch(tracking or store_of(record)))
    else:
        step = walk_back(artifact, tracking)
    if as_json:
        print(printable(json.dumps(dataclasses.asdict(step), indent=2, ensure_ascii=False)))
    else:
        console = PrintableConsole()
        if not console.is_terminal:
            console.width = UNWRAPPED
        console.print(tree_of(step))
