"""What shells offer: the words as bash, zsh and fish hand them over."""

from pathlib import Path

import pytest
from typer.testing import CliRunner

from jobs.cli import app


def offered(words: list[str], shell: str = "bash") -> list[str]:
    """What is offered for the last of these words."""
    if shell == "bash":
        environment = {"COMP_WORDS": " ".join(["sllm", *words]), "COMP_CWORD": str(len(words))}
    else:
        line = " ".join(["sllm", *words])
        environment = {"_TYPER_COMPLETE_ARGS": line, "_TYPER_COMPLETE_FISH_ACTION": "get-args"}
    environment["_SLLM_COMPLETE"] = f"complete_{shell}"
    done = CliRunner().invoke(app, [], prog_name="sllm", env=environment)
    assert done.exit_code == 0, done.output
    return [line.partition("\t")[0] for line in done.stdout.splitlines()]


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["doc"], ["doctor"]),
        (["run", "dem"], ["demo"]),
        (["run", "own"], ["own.yaml"]),
        (["run", "demo", "lm.context_t"], ["lm.context_tokens=512"]),
        (["run", "demo", "segmenter.name", "=", "ref"], ["reference_v1"]),
        (["run", "demo", "launcher", "="], ["auto", "ray", "local"]),
        (["run", "launcher", "=", "l"], ["local"]),
        (["plan", "demo", "ray.use_gpu", "=", ""], ["true", "false"]),
        (["doctor", "dem"], ["demo"]),
        (["config", "lm.context_t"], ["lm.context_tokens"]),
        (["segment", "--segmenter", "learned"], ["learned_v1", "learned_v2"]),
        (["segment", "--compare", "learned_v1,ref"], ["learned_v1,reference_v1"]),
    ],
)
def test_bash(words: list[str], expected: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "own.yaml").touch()
    monkeypatch.chdir(tmp_path)
    assert offered(words) == expected


def test_fish_has_whole_words() -> None:
    assert offered(["run", "demo", "segmenter.name=ref"], "fish") == ["segmenter.name=reference_v1"]
    top = offered(["run", "demo", ""], "fish")
    assert "lm." in top and "launcher=auto" in top and not any(word.startswith("lm.c") for word in top)


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_the_script_of_each_shell_is_shown(shell: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("_TYPER_COMPLETE_TEST_DISABLE_SHELL_DETECTION", "1")
    done = CliRunner().invoke(app, ["--show-completion", shell], prog_name="sllm")
    assert done.exit_code == 0 and "_SLLM_COMPLETE" in done.stdout
