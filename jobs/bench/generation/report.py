"""The table and the plot of `sllm bench generate`."""

from collections.abc import Mapping, Sequence
from typing import Any

from jobs.reports.figure import closed_as

_COLUMNS = (
    "model", "batch", "context", "tokens/s", "over token-level", "bound", "of the bound", "prefill s", "first token s",
    "first sentence s", "context KB/token", "measured", "growth MB",
)  # fmt: skip


def markdown(report: Mapping[str, Any]) -> str:
    """A table for each size, and what it takes a token-level model with speculation to be as fast."""
    options = report["options"]
    lines = [
        f"{report['threads']} thread(s), torch {report['torch']}, weights in {options['weights']}, memory read at most "
        f"at {report['bandwidth_bytes_per_second'] / 1e9:.1f} GB/s, sentences of {report['tokens_per_sentence']:.1f} "
        "tokens; "
        f"the fastest of {options['rounds']} rounds of {options['tokens']} tokens per document, models in turns; "
        f"load {report['load']:.1f}; {report['seconds']} seconds.",
        "Tokens/s are of text, all documents together. `bound`: the ratio to the token-level model if memory bandwidth "
        "were the only limit; `of the bound`: the share of the model's own speed under that limit.",
    ]
    for size in dict.fromkeys(row["size"] for row in report["rows"]):
        rows = [row for row in report["rows"] if row["size"] == size]
        lines += ["", f"## {size}", "", "| " + " | ".join(_COLUMNS) + " |"]
        lines.append("|---" + "|---:" * (len(_COLUMNS) - 1) + "|")
        lines += ["| " + " | ".join(_cells(row)) + " |" for row in rows]
        lines += ["", *_speculation(report, size, rows)]
    even = report["break_even_context_tokens"]
    lines += [
        f"{name} takes less memory than its trunk as token-level model, weights counted, from {tokens:,.0f} tokens of "
        "context of all documents together."
        for name, tokens in even.items()
    ]
    return "\n".join([*lines, "", "On a GPU: not measured."])


def _cells(row: Mapping[str, Any]) -> list[str]:
    measured = row["measured_context_bytes_per_token"]
    return [
        row["model"],
        str(row["batch"]),
        f"{row['context']:,}",
        f"{row['tokens_per_second']:,.1f}",
        f"{row['over_token_level']:.2f}",
        f"{row['bound_over_token_level']:.2f}",
        f"{row['share_of_bound']:.0%}",
        *(
            "–" if row[name] is None else f"{row[name]:.2f}"
            for name in ("prefill_seconds", "first_token_seconds", "first_sentence_seconds")
        ),
        f"{row['context_bytes_per_token'] / 1e3:.2f}",
        "–" if measured is None else f"{measured / 1e3:.2f}",
        f"{row['growth_bytes'] / 1e6:,.0f}",
    ]


def _speculation(report: Mapping[str, Any], size: str, rows: Sequence[Mapping[str, Any]]) -> list[str]:
    """Tokens per pass at which a token-level model with free drafts is as fast as each sentence-level one."""
    lines = []
    for context, pass_cost in report["verification_over_one_token"][size].items():
        alone = [row for row in rows if row["batch"] == 1 and str(row["context"]) == context]
        needed = [
            f"{row['model']} {row['over_token_level'] * pass_cost:.1f}"
            for row in alone
            if row["kind"] == "sentence-level"
        ]
        lines.append(
            f"Context {int(context):,}: a token-level pass that verifies {report['drafted']} drafted tokens takes "
            f"{pass_cost:.2f} times that of one token. With speculation whose drafts cost nothing it is as fast as a "
            f"sentence-level model alone at these tokens per pass, of at most {report['drafted'] + 1}: "
            f"{', '.join(needed)}."
        )
    return [*lines, ""]


def plot(report: Mapping[str, Any], form: str) -> bytes:
    """Tokens/s over the context for each size and batch, with the bound of memory bandwidth dashed; `form`: `png` or
    `svg`."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    sizes = list(dict.fromkeys(row["size"] for row in report["rows"]))
    batches = list(dict.fromkeys(row["batch"] for row in report["rows"]))
    figure, axes = pyplot.subplots(
        len(sizes),
        len(batches),
        figsize=(5 * len(batches), 4 * len(sizes)),
        layout="constrained",
        squeeze=False,
    )
    for axes_of_size, size in zip(axes, sizes, strict=True):
        for axis, batch in zip(axes_of_size, batches, strict=True):
            rows = [row for row in report["rows"] if (row["size"], row["batch"]) == (size, batch)]
            for number, model in enumerate(dict.fromkeys(row["model"] for row in rows)):
                own = [row for row in rows if row["model"] == model]
                contexts, color = [row["context"] for row in own], f"C{number % 10}"
                speeds = [row["tokens_per_second"] for row in own]
                axis.plot(contexts, speeds, "o-", label=model, color=color)
                bounds = [row["tokens_per_second"] / row["share_of_bound"] for row in own]
                axis.plot(contexts, bounds, "--", color=color, alpha=0.4)
            axis.set(
                title=f"{size}, batch {batch}", xlabel="context (tokens)", ylabel="tokens of text per second"
            )
            axis.set(xscale="log", yscale="log")
            axis.grid(alpha=0.3)
        axes_of_size[0].legend(fontsize="x-small")
    return closed_as(figure, form)
