"""Verbs of the console about what models cost: on paper, and measured."""

from typing import Annotated

import typer

from jobs.arguments import ConfigPath, Overrides, config_and_overrides
from pipeline.config import load_config


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
    from jobs.plan import machine, show

    path, changes = config_and_overrides(config, overrides)
    on = machine(gpus, device, peak, utilisation)
    show(load_config(path, changes), on, tokens_per_sentence, as_json)


def bench_train(
    config: ConfigPath,
    overrides: Overrides = None,
    steps: Annotated[int, typer.Option("--steps", min=1, help="Measured steps of each model.")] = 8,
    reference: Annotated[
        bool, typer.Option("--reference/--no-reference", help="Also the published reference's step.")
    ] = True,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Tokens/s and FLOP/s of training steps, beside the machine's matrix-product peak and the reference's step.

    Documents are those of `shards`, else random ones. Models have the configuration's sizes and fresh weights.

    \b
    Examples:
      sllm bench train jobs/presets/demo.yaml
      sllm bench train jobs/presets/demo.yaml shards=runs/demo/shards precision=bf16 --json
    """
    from jobs.bench_train import show

    path, changes = config_and_overrides(config, overrides)
    show(load_config(path, changes), steps, reference, as_json)
