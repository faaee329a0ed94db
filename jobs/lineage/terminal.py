"""The lineage tree on the terminal."""

from pathlib import Path

from rich.markup import escape
from rich.tree import Tree

from jobs.lineage.node import LineageNode

FILES_SHOWN = 12
METRICS_SHOWN = 6
_METRICS = (
    *("bits_per_byte", "nll_per_token", "token_accuracy", "exact_sentences"),
    *("documents", "sentences", "tokens"),
)
"""Metrics that are shown, by the last part of their names, in this order."""


def tree_of(step: LineageNode) -> Tree:
    """The tree, with lines of markup."""
    tree = Tree(_label(step))
    _grow(tree, step, shown=set())
    return tree


def _grow(tree: Tree, step: LineageNode, shown: set[tuple[str, str]]) -> None:
    nexts = step.made_from or step.went_into
    files = [each for each in nexts if each.job is None]
    for each in [*files[:FILES_SHOWN], *(each for each in nexts if each.job is not None)]:
        key = (each.artifact.path, each.artifact.digest)
        if key in shown and (each.made_from or each.went_into):
            tree.add(f"{_name(each)} [dim](as above)[/dim]")
            continue
        shown.add(key)
        _grow(tree.add(_label(each)), each, shown)
    if len(files) > FILES_SHOWN:
        tree.add(f"[dim]and {len(files) - FILES_SHOWN} more (--json shows all)[/dim]")


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
    if step.note:
        lines[0] += f" [yellow]({escape(step.note)})[/yellow]"
    if step.job is not None:
        code = f", code {step.code[:12]}{'+changes' if '+' in step.code else ''}" if step.code else ""
        rest = escape(f", run {step.artifact.run_id or 'not in MLflow yet'}, {step.finished}{code}")
        lines.append(f"by [cyan]{escape(step.job)}[/cyan]{rest}")
    if step.segmenter:
        lines.append(escape(f"segmenter {step.segmenter}; tokenizer {step.tokenizer}"))
    if shown_metrics := _shown_metrics(step):
        lines.append(
            f"[green]{escape(', '.join(f'{key} {value:.6g}' for key, value in shown_metrics.items()))}[/green]"
        )
    return "\n".join(lines)


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
