"""`sllm init`: its configuration loads, equals the preset with the answers, and says what each key means."""

import json
from pathlib import Path

import pytest
import yaml
from typer.testing import CliRunner

from jobs.cli import app
from jobs.runner.presets import preset_or_file
from jobs.setup.commented import commented_yaml
from jobs.setup.init import PRESETS
from pipeline.config import load_config


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "my.txt").write_text("It rained all day. The river rose.\n")
    return tmp_path


def init(*arguments: str, answers: str | None = None):
    return CliRunner().invoke(app, ["init", *arguments], input=answers)


@pytest.mark.parametrize("size", PRESETS)
def test_flags_give_a_commented_configuration_that_equals_the_preset(here: Path, size: str) -> None:
    done = init("--inputs", "my.txt", "--size", size)
    assert done.exit_code == 0, done.output
    expected = load_config(preset_or_file(PRESETS[size]), ["data.inputs=my.txt", "output=runs/my"])
    assert load_config("sllm.yaml", []) == expected
    text = Path("sllm.yaml").read_text()
    assert text.index("# Files, folders, globs") < text.index("  inputs: [my.txt]") < text.index("\nlm:")
    assert text.count("# Optimizer steps") == 1 and max(map(len, text.splitlines())) <= 110
    assert "sllm run sllm.yaml" in done.stderr


def test_three_questions_are_asked_in_a_terminal(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("jobs.setup.init.is_terminal", lambda: True)
    done = init(answers="my.txt\n\ngpu\n")
    assert done.exit_code == 0 and done.stdout.count("?") == 3, done.output
    config = load_config("sllm.yaml", [])
    assert (config.output, config.precision, config.data.inputs) == ("runs/my", "bf16", ("my.txt",))


def test_the_field_of_the_text_is_found(here: Path) -> None:
    row = {"title": "Rain", "content": "It rained all day. The river rose.", "n": 3}
    (here / "rows.jsonl").write_text(json.dumps(row) + "\n")
    done = init("--inputs", "rows.jsonl")
    assert load_config("sllm.yaml", []).data.text_field == "content"
    assert "data.text_field is content" in done.stderr


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "name your text with --inputs PATH"),
        (["--inputs", "none.txt"], "none.txt"),
        (["--inputs", "my.txt", "--size", "tpu"], "--size tpu: known are cpu, gpu"),
        (["my.txt", "--inputs", "my.txt"], "my.txt is there already"),
    ],
)
def test_what_cannot_be_written_is_one_line(here: Path, arguments: list[str], message: str) -> None:
    done = init(*arguments)
    assert done.exit_code == 2 and message in done.stderr and done.stderr.count("\n") == 1
    assert not Path("sllm.yaml").exists()


def test_names_that_yaml_would_read_otherwise_are_kept(here: Path) -> None:
    for name in ("a: b #c.txt", "ümlaut.txt", "yes"):
        (here / name).write_text("It rained.")
        assert init("--inputs", name, "--output", "runs/x: y", "--force").exit_code == 0
        config = load_config("sllm.yaml", [])
        assert (config.data.inputs, config.output) == ((name,), "runs/x: y")


def test_yaml_with_comments_is_the_same_tree() -> None:
    tree = yaml.safe_load(Path(preset_or_file("demo")).read_text())
    assert yaml.safe_load(commented_yaml(tree)) == tree
