"""What the README and the documentation tell people to type, works: every block of commands is run, in order."""

import re
import warnings

import pytest
import typer

from jobs import cli
from jobs.verbs import VERBS
from tests.docs.pages import FENCE, REPOSITORY, blocks, pages
from tests.docs.world import World, new_world

ALL = blocks()
SHELL = [block for block in ALL if block.language == "sh"]
RUN = [block for block in SHELL if block.is_run]
TUTORIAL = "docs/tutorial/"
"""Its pages begin in an empty folder; all others go on where the README ends."""


class Worlds:
    """Folders of this module, one for the tutorial and one for all other pages."""

    def __init__(self, make) -> None:
        self.make = make
        self.made: dict[bool, World] = {}

    def of(self, block) -> World:
        """The folder in which a block runs."""
        is_tutorial = block.page.startswith(TUTORIAL)
        return self.made.get(is_tutorial) or self.made.setdefault(is_tutorial, self.make())

    def error_of(self, wanted) -> str:
        """Run a block, after those that come before it; its error."""
        world = self.of(wanted)
        for block in ALL:
            if self.of(block) is world and block not in world.seen:
                if block.is_run:
                    world.run(block)
                elif block.language in ("python", "yaml", "toml", "text") and re.fullmatch(
                    r"[\w./-]+", block.title
                ):
                    world.write_file(block)
            if block == wanted:
                break
        return world.seen[wanted]


@pytest.fixture(scope="module")
def worlds(empty_store, tmp_path_factory):
    return Worlds(lambda: new_world(tmp_path_factory.mktemp("docs"), empty_store))


@pytest.mark.parametrize("block", RUN, ids=str)
def test_the_commands_run(worlds, block, request):
    if block.page == "docs/how-to/object-stores.md":
        worlds.of(block).upload_to(request.getfixturevalue("s3"))
    error = worlds.error_of(block)
    assert not error, error


@pytest.mark.parametrize("block", [block for block in SHELL if not block.is_run], ids=str)
def test_the_arguments_of_what_cannot_run_here_are_right(worlds, block):
    errors = [
        f"{command}: {error}"
        for command in block.commands
        if (error := worlds.of(block).arguments_error(command))
    ]
    assert not errors, "\n".join(errors)


def test_blocks_of_commands_are_found():
    assert {"README.md", "CONTRIBUTING.md"} < {block.page for block in RUN}
    assert len(RUN) > 2 * len([block for block in SHELL if not block.is_run])


@pytest.mark.parametrize("page", pages(), ids=lambda page: str(page.relative_to(REPOSITORY)))
def test_no_command_stands_outside_of_a_block_that_is_run(page):
    text = FENCE.sub(
        lambda match: "" if match["language"] == "sh" else match[0], page.read_text(encoding="utf-8")
    )
    assert not re.findall(r"^ *(?:sllm|make|pip install) .*", text, re.M)


def test_the_readme_shows_at_least_eight_jobs():
    started = [command.split() for block in SHELL if block.page == "README.md" for command in block.commands]
    jobs = [words for words in started if words[0] == "sllm" and VERBS[words[1]].can_be_submitted]
    assert len(jobs) >= 8


def options_of(verb: str) -> set[str]:
    """The options of a command of ours, and of the commands in it."""
    command = (
        typer.main.get_command(cli.app).commands[verb].make_context(verb, [], resilient_parsing=True).command
    )
    commands = [command, *getattr(command, "commands", {}).values()]
    return {option for one in commands for parameter in one.params for option in parameter.opts} | {
        "--help",
        "-h",
    }


def test_commands_in_the_text_name_verbs_and_options_that_there_are():
    found = 0
    for page in pages():
        text = FENCE.sub("", page.read_text(encoding="utf-8"))
        for command in re.findall(r"`sllm ([a-z][^`]*)`", text):
            verb, *words = command.split()
            assert verb in VERBS, f"{page}: sllm {command}"
            options = [word for word in words if re.fullmatch(r"--?[a-z].*", word)]
            assert set(options) <= options_of(verb), f"{page}: sllm {command}"
            found += 1
    assert found > 50


PYTHON = [block for block in ALL if block.language == "python" and not block.title]
"""Those with a title are files, which the commands after them use."""


@pytest.mark.parametrize("block", PYTHON, ids=str)
def test_the_python_code_runs(worlds, block):
    import mlflow

    last = next(one for one in reversed(RUN) if one.page == block.page or one.page == "README.md")
    assert not worlds.error_of(last)
    with worlds.of(block).inside(), warnings.catch_warnings(action="ignore"):  # MLflow's own
        try:
            exec(block.text, {})  # noqa: S102 - our own pages
        finally:
            mlflow.set_tracking_uri(None)
