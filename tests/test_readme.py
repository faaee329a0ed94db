"""What the README tells people to type, works."""

import re
import shlex
from pathlib import Path

import pytest
from typer.testing import CliRunner

from jobs import cli
from jobs.verbs import VERBS
from segmenters.contract import check_ends

REPOSITORY = Path(__file__).parents[1]
README = (REPOSITORY / "README.md").read_text(encoding="utf-8")
COMMANDS = [
    line.split("  #")[0].strip()
    for block in re.findall(r"```sh\n(.*?)```", README, re.DOTALL)
    for line in block.splitlines()
    if line.startswith("sllm ")
]
JOB_COMMANDS = [command for command in COMMANDS if VERBS[command.split()[1]].can_be_submitted]


@pytest.mark.parametrize("command", JOB_COMMANDS)
def test_job_commands_resolve(command, monkeypatch):
    monkeypatch.chdir(REPOSITORY)
    arguments = shlex.split(command)[1:]
    if arguments[0] == "generate":
        arguments[1] = "models.sllm=runs/demo/sllm"  # the folder is there after the demo only
    result = CliRunner().invoke(cli.app, [*arguments, "--dry-run"])
    assert result.exit_code == 0, result.stderr


def test_the_other_commands_are_known():
    assert {command.split()[1] for command in COMMANDS} <= VERBS.keys()
    assert len(JOB_COMMANDS) >= 8


def test_the_segmenter_of_the_readme_keeps_the_contract():
    (code,) = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
    scope = {"__name__": "lines"}
    exec(code, scope)  # noqa: S102 - our own README
    texts = ["", "one", "one\ntwo\n", "\n\n", "a\r\nb\u2028c"]
    for text, ends in zip(texts, scope["Lines"]().split(texts), strict=True):
        check_ends(text, ends)


def test_files_that_the_readme_links_are_there():
    links = [link for link in re.findall(r"\]\(([^)]+)\)", README) if not link.startswith("http")]
    assert links and all((REPOSITORY / link).exists() for link in links)


def test_every_segmenter_is_listed():
    import segmenters

    assert all(f"| `{name}` |" in README for name in segmenters.BUILT_IN)
