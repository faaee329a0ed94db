"""Arguments that several verbs of the console share."""

import sys
import typing
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import typer

from jobs.runner.completion import complete_config, complete_override
from jobs.runner.presets import preset_or_file
from pipeline.config import Config, load_config, undone
from pipeline.config.paths import LOCAL_PATH, PATH, is_url, local_path, resolved_path
from pipeline.errors import ConfigError
from pipeline.printable import printable

ConfigPath = Annotated[
    str,
    typer.Argument(
        metavar="CONFIG",
        help="YAML file, the job.json of an earlier job, the name of a preset (such as demo), or the first KEY=VALUE.",
        autocompletion=complete_config,
    ),
]
Overrides = Annotated[
    list[str] | None,
    typer.Argument(
        metavar="KEY=VALUE",
        help="Dotted key of the configuration and its value in YAML.",
        autocompletion=complete_override,
    ),
]
Force = Annotated[bool, typer.Option("--force", help="Replace what an earlier run wrote to the same output.")]
AsJson = Annotated[
    bool, typer.Option("--json", help="Print the job's record as JSON; all else goes to stderr.")
]


def with_paths(command: Callable[..., None], options: dict[str, Any]) -> dict[str, Any]:
    """The values of a command's parameters; those annotated with `PATH` or `LOCAL_PATH` are resolved. Raises
    `ConfigError` for a bad path."""
    hints = typing.get_type_hints(command, include_extras=True)
    return {name: _resolved(value, hints.get(name)) for name, value in options.items()}


def _resolved(value: Any, hint: Any) -> Any:
    annotations = getattr(hint, "__metadata__", ())
    resolve = next(
        (resolved_path if one is PATH else local_path for one in annotations if one in _PATHS), None
    )
    if resolve is None or value is None:
        return value
    return [resolve(one) for one in value] if isinstance(value, list) else resolve(value)


_PATHS = (PATH, LOCAL_PATH)


def loaded(path: str | None, overrides: list[str]) -> Config:
    """The configuration of a file or preset; overrides that a later one replaces are named on stderr."""
    for line in undone(overrides):
        print(printable(f"note: {line}"), file=sys.stderr, flush=True)
    return load_config(None if path is None else preset_or_file(path), overrides)


def config_and_overrides(config: str, overrides: list[str] | None) -> tuple[str | None, list[str]]:
    """The YAML file is optional: the first argument may be an override."""
    rest = [_readable(change) for change in overrides or []]
    config = _readable(config)
    key, separator, _ = config.partition("=")
    is_file = is_url(key) or Path(config).exists()  # an `=` may be in the name of a folder
    return (None, [config, *rest]) if separator and not is_file else (config, rest)


def _readable(argument: str) -> str:
    """An argument that is not UTF-8 may only name input files, for whose names such bytes are escaped."""
    if not any("\udc80" <= character <= "\udcff" for character in argument):
        return argument
    from pipeline.corpus.file_names import readable_path  # not at the top: its package reads Parquet

    if argument.startswith(("data.inputs=", "data.dev_inputs=")):
        return readable_path(argument)
    raise ConfigError(
        f"argument {readable_path(argument)!r} is not UTF-8; rename the file, or name its folder"
    )
