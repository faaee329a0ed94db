"""The console's commands, made from the table of verbs.

A verb's file is imported when the verb is started, so that `sllm --help` is quick.
"""

import gc
import os
from typing import Annotated, Any

import typer
from typer.core import TyperCommand

from jobs.cli.job_command import job_command
from jobs.runner.console import answering_errors
from jobs.runner.utf8_mode import ensure_utf8
from jobs.verb import Verb
from jobs.verbs import VERBS

# Only our progress bar is shown. Ray workers inherit this.
os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")

app = typer.Typer(
    name="sllm",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
    context_settings={"help_option_names": ["-h", "--help"]},
)


@app.callback()
def about(
    debug: Annotated[
        bool, typer.Option("--debug", envvar="SLLM_DEBUG", help="Show the traceback of an error.")
    ] = False,
) -> None:
    """Text corpora to sentence shards on Ray; language models that predict the next sentence, on DeepSpeed; lineage in
    MLflow.

    [bold]sllm run demo[/bold] runs the whole path on this machine.
    """
    if debug:
        os.environ["SLLM_DEBUG"] = "1"


def help_of(verb: Verb) -> str:
    """The help of a verb: what it does, and examples."""
    examples = "\n".join(f"  {example}" for example in verb.examples)
    return f"{verb.help}\n\n\b\nExamples:\n{examples}"


class LazyCommand(TyperCommand):
    """A verb with its own arguments; its file is imported when the command line names the verb."""

    def make_context(self, info_name: str | None, *arguments: Any, **options: Any) -> Any:
        """The context of the command in the verb's file."""
        return _own_command(VERBS[str(self.name)]).make_context(info_name, *arguments, **options)


def _own_command(verb: Verb) -> Any:
    command = getattr(verb.load(), verb.function)
    if isinstance(command, typer.Typer):  # a group of verbs
        group = typer.main.get_command(command)
        group.help = help_of(verb)
        return group
    alone = typer.Typer(add_completion=False, rich_markup_mode="rich")
    alone.command(verb.name, help=help_of(verb))(answering_errors(command))
    return typer.main.get_command(alone)


def _imported_when_started() -> None:
    """Stands for the function of a `LazyCommand`."""


for _verb in VERBS.values():
    if _verb.has_own_arguments:
        app.command(_verb.name, cls=LazyCommand, help=help_of(_verb), rich_help_panel=_verb.group)(
            _imported_when_started
        )
    else:
        app.command(_verb.name, help=help_of(_verb), rich_help_panel=_verb.group)(
            answering_errors(job_command(_verb))
        )


def main() -> None:
    """Entry point of the console command."""
    ensure_utf8()
    # Imports make many objects and no garbage: the collector would take a sixth of the start time.
    gc.set_threshold(100_000, 20, 100)
    app()
