"""Hooks of mkdocs: the page of the commands, which is made from the commands themselves when the site is built."""

from typing import Any

import typer
from mkdocs.structure.files import File, Files

from jobs.cli.console import app
from jobs.verbs import VERBS

PAGE = "commands.md"
_INTRODUCTION = """# Commands

`sllm VERB --help` shows the same. Jobs take `CONFIG [KEY=VALUE ...]`: a YAML file or the name of a preset, and
overrides with dotted keys of the [configuration](configuration.md).
"""


def on_files(files: Files, config: Any) -> Files:
    """Add the page."""
    files.append(File.generated(config, PAGE, content=commands_page()))
    return files


def commands_page() -> str:
    """All commands in Markdown: what each does, reads and writes, its arguments and examples."""
    root: Any = typer.main.get_command(app)
    parts = [_INTRODUCTION]
    for name, verb in VERBS.items():
        # A verb with own arguments stands in the console without them until it is started.
        context = root.commands[name].make_context(name, [], resilient_parsing=True)
        parts.append(f"## `sllm {name}`\n\n{verb.help}\n\nReads {verb.reads}. Writes {verb.writes}.\n")
        inner = getattr(context.command, "commands", None)
        for title, one in inner.items() if inner else [("", context.command)]:
            if title:
                summary = " ".join(one.help.split("\b")[0].split())
                parts.append(f"### `sllm {name} {title}`\n\n{summary}\n")
            parts.append(_arguments(one, context))
        parts.append("```text\n" + "\n".join(verb.examples) + "\n```\n")
    return "\n".join(parts)


def _arguments(command: Any, context: Any) -> str:
    rows = ["| argument | meaning |", "|---|---|"]
    for record in (one.get_help_record(context) for one in command.params if one.name != "help"):
        if record is not None:
            shown, meaning = (" ".join(text.split()).replace("|", "&#124;") for text in record)
            rows.append(f"| <code>{shown}</code> | {meaning} |")
    return "\n".join(rows) + "\n" if len(rows) > 2 else ""
