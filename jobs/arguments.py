"""Arguments that several verbs of the console share."""

from pathlib import Path
from typing import Annotated

import typer

from pipeline.corpus.file_names import readable_path
from pipeline.errors import ConfigError

ConfigPath = Annotated[
    str, typer.Argument(metavar="CONFIG", help="YAML file (see jobs/presets), or the first KEY=VALUE.")
]
Overrides = Annotated[
    list[str] | None,
    typer.Argument(metavar="KEY=VALUE", help="Dotted key of the configuration and its value in YAML."),
]


def config_and_overrides(config: str, overrides: list[str] | None) -> tuple[str | None, list[str]]:
    """The YAML file is optional: the first argument may be an override already."""
    rest = [_readable(change) for change in overrides or []]
    config = _readable(config)
    return (None, [config, *rest]) if "=" in config and not Path(config).exists() else (config, rest)


def _readable(argument: str) -> str:
    """An argument that is no UTF-8 may only name input files, whose names have an escape for such bytes."""
    if not any("\udc80" <= character <= "\udcff" for character in argument):
        return argument
    if argument.startswith(("data.inputs=", "data.dev_inputs=")):
        return readable_path(argument)
    raise ConfigError(
        f"argument {readable_path(argument)!r} is no UTF-8; rename the file, or name its folder"
    )
