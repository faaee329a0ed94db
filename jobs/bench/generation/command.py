"""From the arguments of `sllm bench generate` to its table."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from jobs.bench.generation.measure import Options, measure
from jobs.bench.generation.report import markdown, plot
from jobs.runner.arguments import config_and_overrides, loaded
from pipeline.errors import ConfigError
from pipeline.printable import printable

SIZES = tuple(f"paper/opt-{size}-h{layers}" for size in ("125m", "350m", "1.3b") for layers in (1, 2, 4))


def show(
    arguments: Sequence[str],
    lists: tuple[str, str],
    options: dict[str, Any],
    plot_file: str | None,
    as_json: bool,
) -> None:
    """Measure, print a table or JSON, and write the plot. Raises `ConfigError` for a list that is not of whole numbers
    of at least 1, and for a plot that is neither PNG nor SVG."""
    form = "" if plot_file is None else Path(plot_file).suffix[1:].lower()
    if plot_file is not None and form not in ("png", "svg"):
        raise ConfigError(f"--plot {plot_file}: the name must end in .png or .svg")
    names, overrides = [], []
    for argument in arguments:
        name, changes = config_and_overrides(argument, None)
        names += [] if name is None else [name]
        overrides += changes
    batches, contexts = (
        numbers(option, given) for option, given in zip(("--batch", "--context"), lists, strict=True)
    )
    configs = {name: loaded(name, overrides) for name in names or SIZES}
    report = measure(configs, Options(batches=batches, contexts=contexts, **options))
    if plot_file is not None:
        Path(plot_file).write_bytes(plot(report, form))
    print(printable(json.dumps(report, indent=2) if as_json else markdown(report)))


def numbers(option: str, given: str) -> tuple[int, ...]:
    """Of a list such as `1,4,16`. Raises `ConfigError` for anything else."""
    numbers = tuple(int(part) for part in given.split(",") if part.strip().isdecimal())
    if len(numbers) != len(given.split(",")) or 0 in numbers:
        raise ConfigError(f"{option} {given!r} is no list of whole numbers of at least 1, such as 1,4,16")
    return numbers
