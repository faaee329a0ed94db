"""The command `sllm lineage`."""

import dataclasses
import json
from typing import Annotated, Any

import typer

from infra.tracking.search import RunSearch
from jobs.lineage.differences import differences, nothing_differs
from jobs.lineage.node import LineageNode
from jobs.lineage.records import Records
from jobs.lineage.scores import scores
from jobs.lineage.subject import Subject, subject_of
from jobs.lineage.terminal import differences_of, scores_of, tree_of
from jobs.lineage.walk import node_of, walk_back, walk_forward
from jobs.runner.output.file import opened_output
from jobs.runner.printable_console import PrintableConsole
from pipeline.config.paths import PATH, resolved_tracking_uri
from pipeline.errors import ConfigError
from pipeline.printable import printable

UNWRAPPED = 1000
"""Width in characters if the output is not a terminal."""
SUBJECT_HELP = (
    "A folder or URL that a job wrote; a corpus file, folder or pattern; an MLflow run id; NAME@ALIAS, NAME/VERSION "
    "or models:/... of MLflow's registry."
)


def command(
    path: Annotated[str, typer.Argument(metavar="X", help=SUBJECT_HELP), PATH],
    other: Annotated[
        str | None,
        typer.Argument(metavar="[OTHER]", help="Show instead what differs upstream of X and OTHER."),
        PATH,
    ] = None,
    tracking: Annotated[
        str | None, typer.Option("--tracking", metavar="URI", help="MLflow store, where job.json names none.")
    ] = None,
    forward: Annotated[
        bool, typer.Option("--forward", help="Show what was made from it, also where a job made it.")
    ] = False,
    verify: Annotated[
        bool,
        typer.Option(
            "--verify",
            help="Read all files upstream and compare them with what was recorded; exit code 1 if one differs.",
        ),
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print the tree as JSON.")] = False,
    html: Annotated[
        str | None,
        typer.Option(
            "--html",
            metavar="PAGE",
            help="Write an HTML page: graph, configurations, metrics; of two, what differs upstream.",
        ),
        PATH,
    ] = None,
) -> None:
    """Arguments of `sllm lineage`. Raises `ConfigError` for arguments that do not go together."""
    uri = None if tracking is None else resolved_tracking_uri(tracking)
    if other is not None:
        if forward or verify:
            raise ConfigError("--forward and --verify are about one artifact: name X alone")
        show_differences(path, other, uri, as_json, html)
    elif not show(path, uri, as_json, forward, verify, html):
        raise typer.Exit(1)


def show(
    path: str,
    tracking: str | None,
    as_json: bool = False,
    forward: bool = False,
    verify: bool = False,
    html: str | None = None,
) -> bool:
    """Print the lineage of what `path` names: backwards if a job made it; otherwise, or with `forward`, forwards. With
    `html` it is written to that page.

    With `verify` all that is upstream is read -> whether it is as recorded. Raises `ConfigError` where there is nothing
    at `path`, or a needed store is missing.
    """
    subject = subject_of(path, tracking)
    if forward or _only_forward(subject):
        step = walk_forward(subject.artifact, RunSearch(tracking or subject.store), subject.files)
    else:
        step = back(subject, tracking)
    is_same = True
    if verify:
        from jobs.lineage.verification import is_as_recorded, verified  # its package reads Parquet

        step = verified(step)
        is_same = is_as_recorded(step)
    found = scores(step)
    if html is not None:
        from jobs.lineage.page import page_of

        with opened_output(html, path) as file:
            file.write(page_of(step, found))
    if as_json:
        tree = dataclasses.asdict(step) | {"scores": [dataclasses.asdict(score) for score in found]}
        _print_json(tree)
    elif html is None:
        console = _console()
        console.print(tree_of(step))
        if found:
            console.print(scores_of(found))
    return is_same


def show_differences(
    a: str, b: str, tracking: str | None, as_json: bool = False, html: str | None = None
) -> None:
    """Print what differs upstream of two artifacts; with `html` it is written to that page, with both trees. Raises
    `ConfigError` as `show` does."""
    tree_a, tree_b = (back(subject_of(path, tracking), tracking) for path in (a, b))
    found = differences(tree_a, tree_b)
    if html is not None:
        from jobs.lineage.page import page_of_two

        with opened_output(html) as file:
            file.write(page_of_two(a, b, tree_a, tree_b, found))
    if as_json:
        _print_json([dataclasses.asdict(each) for each in found])
    elif html is None and found:
        _console().print(differences_of(found, a, b))
    elif html is None:
        print(printable(nothing_differs(a, b, tree_a, tree_b)))


def back(subject: Subject, tracking: str | None) -> LineageNode:
    """The tree of what a subject was made from; of a run of several jobs, of all that they made."""
    records = Records(tracking)
    if subject.stored is not None:
        records.add_stored(*subject.stored)
    if subject.children:
        trees = [walk_back(child.output, record=child, records=records) for child in subject.children]
        return LineageNode(subject.artifact, note=subject.status, made_from=tuple(trees))
    if subject.record is not None and not subject.artifact.digest:
        inputs = [walk_back(given, records=records) for given in subject.record.inputs]
        node = node_of(subject.record, subject.artifact)
        return dataclasses.replace(node, note=subject.status, made_from=tuple(inputs))
    return walk_back(subject.artifact, record=subject.record, records=records)


def _only_forward(subject: Subject) -> bool:
    return subject.record is None and not subject.children


def _console() -> PrintableConsole:
    console = PrintableConsole(markup=True)
    if not console.is_terminal:
        console.width = UNWRAPPED
    return console


def _print_json(tree: Any) -> None:
    print(printable(json.dumps(tree, indent=2, ensure_ascii=False)))
