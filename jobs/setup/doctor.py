"""`sllm doctor`: whether jobs can run here, and what to do where they cannot."""

import dataclasses
from typing import Annotated

import typer
from rich.text import Text

from infra.doctor import Check, State, all_checks
from jobs.runner.arguments import Overrides, config_and_overrides, loaded
from jobs.runner.completion import complete_config
from jobs.runner.console import FAILED, only_result_on_stdout
from jobs.runner.printable_console import PrintableConsole
from pipeline.redaction import redacted

_COLOURS: dict[State, str] = {"ok": "green", "warning": "yellow", "error": "bold red"}


def command(
    config: Annotated[
        str | None,
        typer.Argument(
            metavar="CONFIG",
            help="YAML file, preset or the first KEY=VALUE: checks what such jobs need.",
            autocompletion=complete_config,
        ),
    ] = None,
    overrides: Overrides = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print a JSON list of the checks.")] = False,
) -> None:
    """Arguments of `sllm doctor`."""
    path, changes = config_and_overrides(config, overrides) if config is not None else (None, [])
    checks: list[Check] = []
    console = PrintableConsole(highlight=False)
    with only_result_on_stdout(as_json) as show:
        for check in all_checks(loaded(path, changes)):
            check = dataclasses.replace(check, found=redacted(check.found), remedy=redacted(check.remedy))
            checks.append(check)
            if not as_json:
                _print(console, check)
        show([dataclasses.asdict(check) for check in checks])
    counts = {state: sum(check.state == state for check in checks) for state in _COLOURS}
    if not as_json:
        console.print(
            f"{counts['ok']} ok, {counts['warning']} warnings, {counts['error']} errors", soft_wrap=True
        )
    if counts["error"]:
        raise typer.Exit(FAILED)


def _print(console: PrintableConsole, check: Check) -> None:
    line = Text.assemble(
        (f"{check.state:<8}", _COLOURS[check.state]), (f"{check.name}: ", "bold"), check.found
    )
    console.print(line, soft_wrap=True)
    if check.remedy:
        console.print(Text(f"        -> {check.remedy}"), soft_wrap=True)
