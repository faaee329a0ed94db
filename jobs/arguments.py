"""Arguments that several verbs of the console share."""

from pathlib import Path
from typing import Annotated

import typer

ConfigPath = Annotated[
    str, typer.Argument(metavar="CONFIG", help="YAML file (see jobs/presets), or the first KEY=VALUE.")
]
Overrides = Annotated[
    list[str] | None,
    typer.Argument(metavar="KEY=VALUE", help="Dotted key of the configuration and its value in YAML."),
]


def config_and_overrides(config: str, overrides: list[str] | None) -> tuple[str | None, list[str]]:
    """The YAML file is optional: the first argument may be an override already."""
    rest = list(overrides or [])
    return (None, [config, *rest]) if "=" in config and not Path(config).exists() else (config, rest)
