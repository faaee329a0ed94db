"""The tables and the plot of `sllm reproduce`."""

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from jobs.reports.figure import closed_as
from jobs.reproduction.paper import SENTENCE_VAE, SLLM, TOKEN_LEVEL

Rows = Sequence[Mapping[str, Any]]


def markdown(rows: Rows, setting: Mapping[str, Any]) -> str:
    """Perplexities of all configurations counted both ways beside the paper's, and what each rule does alone."""
    return "\n".join(
        [
            "# SentenceVAE reproduced at small sizes",
            "",
            f"Each model was trained on {setting['tokens']:,} tokens, one seed of each kind "
            f"({', '.join(map(str, setting['seeds']))}), {setting['threads']} thread(s), "
            f"{setting['seconds']} seconds in all, and scored on {setting['dev_tokens']:,} dev tokens. `published`: "
            "perplexity as the published code computes it; `exact`: exp(NLL / document tokens). Both are of the same "
            f"weights and documents, of which the published code reads {setting['share_read']:.1%} of the tokens. "
            "The paper's models are a thousand times larger: compare columns with each other, not figures with the "
            "paper's. `bits per byte` is of exact training.",
            "",
            "## SentenceVAE",
            "",
            *_table(
                ["configuration", "paper", "published", "exact"],
                [
                    [
                        row["name"],
                        _paper(SENTENCE_VAE, row["name"]),
                        *_both(row["vae"]),
                    ]
                    for row in rows
                ],
            ),
            "",
            "## Sentence-level models",
            "",
            *_table(
                [
                    "configuration", "parameters", "paper", "published training: published",
                    "published training: exact", "exact training: published", "exact training: exact",
                    "bits per byte", "token-level, paper", "token-level: published", "token-level: exact",
                ],
                [
                    [
                        row["name"],
                        f"{row['parameters']:,}",
                        _paper(SLLM, row["name"]),
                        *_both(row["sllm"]["published"]),
                        *_both(row["sllm"]["exact"]),
                        f"{row['sllm']['exact']['bits_per_byte']:.3f}",
                        _paper(TOKEN_LEVEL, row["size"]),
                        *_both(row["token_level"]),
                    ]
                    for row in rows
                ],
            ),
            "",
            "## What each rule of the published evaluation does",
            "",
            "Factor of the perplexity: geometric mean over the configurations, and the range. `alone`: the perplexity "
            "with this rule alone over the exact one; `last`: the published one over that with all other rules.",
            "",
            *_table(
                ["rule", *(f"{title}: {how}" for title, _ in _kinds(rows) for how in ("alone", "last"))],
                [
                    [title, *(cell for _, figures in _kinds(rows) for cell in _factors(figures, rule))]
                    for rule, title in setting["rules"].items()
                ],
            ),
            *_trained_alone(rows, setting),
            "",
        ]
    )  # fmt: skip


def _kinds(rows: Rows) -> list[tuple[str, list[Mapping[str, Any]]]]:
    return [
        ("SentenceVAE", [row["vae"] for row in rows]),
        ("published training", [row["sllm"]["published"] for row in rows]),
        ("exact training", [row["sllm"]["exact"] for row in rows]),
    ]


def _factors(figures: Sequence[Mapping[str, Any]], rule: str) -> tuple[str, str]:
    if rule not in figures[0]["alone"]:
        return "–", "–"
    return (
        _mean_and_range(each["alone"][rule] / each["exact"] for each in figures),
        _mean_and_range(each["published"] / each["without"][rule] for each in figures),
    )


def _mean_and_range(factors: Iterable[float]) -> str:
    found = list(factors)
    mean = math.exp(sum(map(math.log, found)) / len(found))
    return f"{mean:.3f} ({min(found):.3f} to {max(found):.3f})"


def _trained_alone(rows: Rows, setting: Mapping[str, Any]) -> list[str]:
    """Models trained under one rule of the published training each."""
    rules = setting["training_rules"]
    explained = [row for row in rows if rules[0] in row["sllm"]]
    if not explained:
        return []
    ways = [
        ("exact", "none"),
        *((rule, setting["rules"][rule]) for rule in rules),
        ("published", "all of these"),
    ]
    cells = [
        [row["name"], title, *_both(row["sllm"][way]), f"{row['sllm'][way]['bits_per_byte']:.3f}"]
        for row in explained
        for way, title in ways
    ]
    head = ["configuration", "rule in training", "published", "exact", "bits per byte"]
    return ["", "## What each rule of the published training does", "", *_table(head, cells)]


def _both(figures: Mapping[str, Any]) -> tuple[str, str]:
    return f"{figures['published']:.2f}", f"{figures['exact']:.2f}"


def _paper(table: Mapping[str, float], name: str) -> str:
    return f"{table[name]:.2f}" if name in table else "–"


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    alignment = ["---", *("---:" for _ in head[1:])]
    return [f"| {' | '.join(cells)} |" for cells in (head, alignment, *rows)]


def plot(rows: Rows, form: str) -> bytes:
    """Perplexities of SentenceVAEs and of sentence-level models, counted both ways, beside the paper's; `form`: `png`
    or `svg`."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(1, 2, figsize=(14, 5), layout="constrained")
    names = [row["name"] for row in rows]
    series = [
        ("paper", [SENTENCE_VAE.get(name) for name in names], "k^:", 0),
        ("published", [row["vae"]["published"] for row in rows], "C0o-", 0),
        ("exact", [row["vae"]["exact"] for row in rows], "C1o-", 0),
        ("paper", [SLLM.get(name) for name in names], "k^:", 1),
        ("paper, token-level", [TOKEN_LEVEL.get(row["size"]) for row in rows], "x:", 1),
        *(
            (f"{way} training, {counted}", [row["sllm"][way][counted] for row in rows], style, 1)
            for way, counted, style in (
                ("published", "published", "C0o-"),
                ("published", "exact", "C1o-"),
                ("exact", "published", "C0s--"),
                ("exact", "exact", "C1s--"),
            )
        ),
        ("token-level, exact", [row["token_level"]["exact"] for row in rows], "C2x-", 1),
    ]
    for label, values, style, panel in series:
        points = [(name, value) for name, value in zip(names, values, strict=True) if value is not None]
        axes[panel].plot(*zip(*points, strict=True) if points else ((), ()), style, label=label)
    for axis, title in zip(axes, ("SentenceVAE", "sentence-level model"), strict=True):
        axis.set(title=title, ylabel="perplexity (down is better)", yscale="log")
        axis.tick_params(axis="x", rotation=45)
        axis.grid(alpha=0.3)
        axis.legend(fontsize="small")
    return closed_as(figure, form)
