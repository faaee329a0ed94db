"""The table of `sllm bench segmenters`: the best package on each set, sums over the sets, and Markdown."""

from collections.abc import Collection, Iterable

Cell = float | str | None
"""A figure; a reason why nothing could be measured; or none if it took too long."""
Table = dict[str, dict[str, Cell]]
"""By segmenter and by name of what is measured. Under `error`: why a segmenter cannot be used."""

RULE = "punctuation_v1"
"""What every segmenter is compared with, beside the packages."""
BEST = "best package"
BEHIND = 0.003
"""F1 that a segmenter may be behind the best."""


def is_set(label: str) -> bool:
    """Whether the row is F1 on labelled texts as they are written."""
    return ".dev" in label and not label.endswith("stripped")


def add_summary(table: Table, packages: Collection[str]) -> None:
    """Add a column with the highest F1 of the packages on each set, and to each row of ours the sums over the sets."""
    ours = [name for name in table if name not in packages and "error" not in table[name]]
    best = {
        label: figure
        for label in dict.fromkeys(label for row in table.values() for label in row if ".dev" in label)
        if (figure := _highest(table[name].get(label) for name in packages if name in table)) is not None
    }
    for name in ours:
        row = table[name]
        figures = {label: cell for label, cell in row.items() if is_set(label) and isinstance(cell, float)}
        if not figures:
            continue
        row[f"mean of {len(figures)} sets"] = sum(figures.values()) / len(figures)
        if best:
            rule = table.get(RULE, {})
            behind = [
                highest - figure
                for label, figure in figures.items()
                if (highest := _highest([best.get(label), rule.get(label)])) is not None
            ]
            row[f"sets where {RULE} and all packages are at most equal"] = str(sum(x <= 0 for x in behind))
            row[f"sets where one is more than {BEHIND:g} better"] = str(sum(x > BEHIND for x in behind))
    if best:
        table[BEST] = dict(best)


def _highest(cells: Iterable[Cell]) -> float | None:
    return max((cell for cell in cells if isinstance(cell, float)), default=None)


def markdown(table: Table) -> str:
    """The table in Markdown, one row per set and one column per segmenter, with errors below it."""
    works = {name: row for name, row in table.items() if "error" not in row}
    labels = list(dict.fromkeys(label for row in works.values() for label in row))
    lines = ["| | " + " | ".join(works) + " |", "|---" * (len(works) + 1) + "|"]
    for label in labels:
        digits = 3 if label.startswith("MB/s") else 4
        cells = [_shown(row.get(label, ""), label, digits) for row in works.values()]
        lines.append(f"| {label} | " + " | ".join(cells) + " |")
    lines += [f"\n{name}: {row['error']}" for name, row in table.items() if "error" in row]
    return "\n".join(lines)


def _shown(cell: Cell, label: str, digits: int) -> str:
    if cell is None:
        return "over 30 s"
    if isinstance(cell, str):
        return cell if label.startswith("sets where") and cell else "-"
    return f"{cell:.{digits}g}" if digits == 3 else f"{cell:.{digits}f}"
