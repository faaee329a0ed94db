"""`sllm config`: the keys of the configuration, their types, defaults and descriptions."""

import json
import shutil
import textwrap
from collections.abc import Sequence
from typing import Annotated

import typer

from jobs.runner.completion import complete_key
from pipeline.config.documentation import Key, keys_at, markdown
from pipeline.errors import ConfigError

_INDENT = "    "
_WIDEST = 110
"""Characters of a line."""


def command(
    key: Annotated[
        str | None,
        typer.Argument(
            metavar="KEY", help="A key or a section, such as vae; none: all.", autocompletion=complete_key
        ),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print a JSON list.")] = False,
    as_markdown: Annotated[
        bool, typer.Option("--markdown", help="Print all keys as the page docs/configuration.md.")
    ] = False,
) -> None:
    """Arguments of `sllm config`. Raises `ConfigError` for arguments that exclude each other."""
    if as_markdown and (as_json or key is not None):
        raise ConfigError("--markdown prints the whole page: leave KEY and --json out")
    if as_markdown:
        print(markdown(), end="")
    elif as_json:
        print(json.dumps([one.as_json() for one in keys_at(key)], indent=2, ensure_ascii=False))
    else:
        print(text(keys_at(key), min(shutil.get_terminal_size().columns, _WIDEST)))


def text(keys: Sequence[Key], width: int) -> str:
    """The keys for a terminal of this width, in characters."""
    return "\n\n".join(_paragraph(one, width) for one in keys)


def _paragraph(one: Key, width: int) -> str:
    default = f"; default {one.shown_default}" if one.shown_default and not one.is_required else ""
    kind = f"{one.kind}{'; required' if one.is_required else ''}{default}"
    lines = (kind, one.description)
    wrapped = [
        textwrap.fill(line, width, initial_indent=_INDENT, subsequent_indent=_INDENT, break_on_hyphens=False)
        for line in lines
        if line
    ]
    return "\n".join([one.key, *wrapped])
