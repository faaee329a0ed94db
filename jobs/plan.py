"""`sllm plan`: what a configuration costs, before it is run."""

import json
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from infra.registry.models import with_model_folders
from jobs.runner.arguments import ConfigPath, Overrides, config_and_overrides, loaded
from jobs.runner.printable_console import PrintableConsole
from pipeline.config import Config
from pipeline.evaluation.cost import Machine, costs, machine
from pipeline.evaluation.gpu_memory import STAGES


def command(
    config: ConfigPath,
    overrides: Overrides = None,
    gpus: Annotated[int, typer.Option("--gpus", min=1, help="GPUs that train together.")] = 1,
    device: Annotated[
        str, typer.Option("--device", metavar="NAME", help="h200, h100, a100, l40s, l4, v100 or cpu.")
    ] = "h100",
    peak: Annotated[
        float | None,
        typer.Option("--peak", metavar="FLOP/S", help="Peak of one GPU; replaces that of the table."),
    ] = None,
    utilisation: Annotated[
        float,
        typer.Option("--utilisation", min=0.01, max=1.0, help="Share of the peak that training reaches."),
    ] = 0.4,
    tokens_per_sentence: Annotated[
        float, typer.Option("--tokens-per-sentence", min=1.0, help="Mean; `sllm inspect` prints it.")
    ] = 18.0,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Arguments of `sllm plan`."""
    path, changes = config_and_overrides(config, overrides)
    on = machine(gpus, device, peak, utilisation)
    show(with_model_folders(loaded(path, changes)), on, tokens_per_sentence, as_json)


def show(
    config: Config, on: Machine, tokens_per_sentence: float, as_json: bool, console: Console | None = None
) -> None:
    """Print the plan as tables, or as JSON."""
    report = costs(config, on, tokens_per_sentence)
    if as_json:
        print(json.dumps(report, indent=2))
        return
    console = console or PrintableConsole()
    title = (
        f"{on.num_gpus} x {on.peak / 1e12:,.4g} TFLOP/s at {on.utilisation:.0%}, {config.precision}; "
        f"sentences of {tokens_per_sentence:g} tokens, context of {report['context_tokens']:,.0f}"
    )
    table = Table(title=title, title_justify="left")
    table.add_column("")
    models: dict[str, dict[str, Any]] = report["models"]
    for name in models:
        table.add_column(name, justify="right")
    for key, label, form in _ROWS:
        table.add_row(label, *(form(model[key]) if key in model else "" for model in models.values()))
    for stage in STAGES:
        cells = (f"{_total(model, stage) / 1e9:,.2f} GB" for model in models.values())
        table.add_row(f"memory per GPU, ZeRO {stage}", *cells)
    console.print(table)


def _total(model: dict[str, Any], stage: int) -> float:
    return sum(model["memory_per_gpu"][str(stage)].values())


_ROWS = (
    ("parameters", "parameters", "{:,.0f}".format),
    ("trained_parameters", "of them trained", "{:,.0f}".format),
    ("training_flops_per_token", "training FLOPs per token", "{:.3g}".format),
    ("training_tokens", "tokens in training", "{:.3g}".format),
    ("training_tokens_per_second", "training tokens/s", "{:,.0f}".format),
    ("training_days", "training days", "{:,.3g}".format),
    ("context_tokens", "context, tokens", "{:,.0f}".format),
    ("generation_flops_per_token", "FLOPs per generated token", "{:.3g}".format),
    ("generated_tokens_per_second", "generated tokens/s, one text, at most", "{:,.0f}".format),
    ("context_bytes_per_token", "KB per token of context", lambda value: f"{value / 1e3:,.3g}"),
)
