"""The lineage tree, scores and differences on the terminal."""

from collections.abc import Sequence
from pathlib import Path

from rich.console import Group
from rich.markup import escape
from rich.table import Table
from rich.tree import Tree

from infra.provenance import PACKAGES
from jobs.lineage.differences import Difference
from jobs.lineage.node import LineageNode
from jobs.lineage.scores import Score

FILES_SHOWN = 12
METRICS_SHOWN = 6
SCORES_SHOWN = 20
_METRICS = (
    *("bits_per_byte", "nll_per_token", "token_accuracy", "exact_sentences"),
    *("documents", "sentences", "tokens"),
)
"""Metrics that are shown, by the last part of their names, in this order."""


def tree_of(step: LineageNode) -> Tree:
    """The tree, with lines of markup; of what was asked about, more lines."""
    tree = Tree("\n".join([_label(step), *_details(step)]))
    _grow(tree, step, shown=set())
    if step.stale:
        branch = tree.add("[yellow]stale: made from other content at this path[/yellow]")
        _grow_all(branch, step.stale, shown=set())
    return tree


def scores_of(scores: Sequence[Score]) -> Group:
    """Tables of bits per byte, one for each set of documents, the best first."""
    groups: dict[tuple[int, int], list[Score]] = {}
    for score in scores:
        groups.setdefault((score.documents, score.num_bytes), []).append(score)
    return Group(*(_scores(*key, found) for key, found in groups.items()))


def differences_of(differences: Sequence[Difference], a: str, b: str) -> Table:
    """A table of what differs upstream."""
    table = Table("differs", escape(a), escape(b), title_justify="left")
    for each in differences:
        table.add_row(escape(each.what), escape(each.a), escape(each.b))
    return table


def _scores(documents: int, num_bytes: int, scores: Sequence[Score]) -> Table:
    on = (
        f"the same {documents:,} dev documents, {num_bytes:,} bytes"
        if documents
        else "documents that are not recorded"
    )
    table = Table(title=f"bits per byte on {on}", title_justify="left")
    for name in ("bits per byte", "segmenter", "model", "report"):
        table.add_column(name, justify="right" if name == "bits per byte" else "left", overflow="fold")
    for score in scores[:SCORES_SHOWN]:
        table.add_row(
            f"{score.bits_per_byte:.4f}",
            escape(score.segmenter or "unknown"),
            escape(score.model),
            escape(_short_path(score.report)),
        )
    if len(scores) > SCORES_SHOWN:
        table.caption = f"and {len(scores) - SCORES_SHOWN} more (--json shows all)"
    return table


def _grow(tree: Tree, step: LineageNode, shown: set[tuple[str, str]]) -> None:
    _grow_all(tree, step.made_from or step.went_into, shown)


def _grow_all(tree: Tree, nexts: Sequence[LineageNode], shown: set[tuple[str, str]]) -> None:
    files = [each for each in nexts if each.job is None]
    for each in [*_first(files), *(each for each in nexts if each.job is not None)]:
        key = (each.artifact.path, each.artifact.digest)
        if key in shown and (each.made_from or each.went_into):
            tree.add(f"{_name(each)} [dim](as above)[/dim]")
            continue
        shown.add(key)
        _grow(tree.add(_label(each)), each, shown)
    if len(files) > FILES_SHOWN:
        tree.add(f"[dim]and {len(files) - FILES_SHOWN} more (--json shows all)[/dim]")


def _first(files: Sequence[LineageNode]) -> list[LineageNode]:
    """The files that are shown: those that changed before the others."""
    changed = [each for each in files if each.is_verified is False]
    return [*changed, *(each for each in files if each.is_verified is not False)][:FILES_SHOWN]


def _name(step: LineageNode) -> str:
    artifact = step.artifact
    path = _short_path(artifact.path)
    return f"[bold]{escape(artifact.kind)}[/bold] {escape(path)} [dim]{escape(artifact.digest[:12])}[/dim]"


def _short_path(path: str) -> str:
    """The path, relative if it is below the current folder."""
    here = Path.cwd()
    return str(Path(path).relative_to(here)) if Path(path).is_relative_to(here) else path


def _label(step: LineageNode) -> str:
    lines = [_name(step)]
    if step.documents is not None:
        lines[0] += f" [blue]({_split(step.documents)})[/blue]"
    if step.is_verified:
        lines[0] += " [green](verified)[/green]"
    if step.note:
        lines[0] += f" [yellow]({escape(step.note)})[/yellow]"
    if step.job is not None:
        code = f", code {step.code[:12]}{'+changes' if '+' in step.code else ''}" if step.code else ""
        rest = escape(
            f", run {step.artifact.run_id or 'not in MLflow yet'}, {step.finished}{code}{_who(step)}"
        )
        lines.append(f"by [cyan]{escape(step.job)}[/cyan]{rest}")
    if step.segmenter:
        digest = f" {step.segmenter_digest[:12]}" if step.segmenter_digest else ""
        lines.append(escape(f"segmenter {step.segmenter}{digest}; tokenizer {step.tokenizer}"))
    if shown_metrics := _shown_metrics(step):
        lines.append(
            f"[green]{escape(', '.join(f'{key} {value:.6g}' for key, value in shown_metrics.items()))}[/green]"
        )
    return "\n".join(lines)


def _details(step: LineageNode) -> list[str]:
    """Lines of the artifact that was asked about."""
    versions = [f"{name} {step.versions[name]}" for name in PACKAGES if name in step.versions]
    shown = {
        "commit": step.versions.get("git"),
        "packages": ", ".join(versions),
        "command": step.command,
        "again": step.again,
    }
    return [f"[dim]{name}[/dim] {escape(value)}" for name, value in shown.items() if value]


def _who(step: LineageNode) -> str:
    who = "@".join(filter(None, (step.user, step.host)))
    return (f", {who}" if who else "") + (f", Ray job {step.ray_job}" if step.ray_job else "")


def _split(documents: dict[str, int]) -> str:
    counted = [f"{split}: {count:,} documents" for split, count in documents.items() if count]
    return ", ".join(counted) or "no document of it"


def _shown_metrics(step: LineageNode) -> dict[str, float]:
    def last(name: str) -> str:
        return name.rpartition("/")[2]

    held_out = [
        name for name in step.metrics if step.artifact.kind != "model" or not name.startswith("train/")
    ]
    names = sorted(
        (name for name in held_out if last(name) in _METRICS), key=lambda name: _METRICS.index(last(name))
    )
    return {name: step.metrics[name] for name in names[:METRICS_SHOWN]}
