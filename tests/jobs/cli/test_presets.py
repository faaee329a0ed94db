"""Presets are found by name from any folder, also those of an installed wheel."""

import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
from typer.testing import CliRunner

from jobs import cli
from jobs.runner.presets import FOLDER, names, preset_or_file
from pipeline.config import load_config
from pipeline.errors import ConfigError

REPOSITORY = Path(__file__).parents[3]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory) -> Path:
    """The unpacked wheel of this code: what `pip install` would put into a fresh environment."""
    folder = tmp_path_factory.mktemp("wheel")
    for name in ("segmenters", "pipeline", "infra", "jobs"):
        shutil.copytree(
            REPOSITORY / name, folder / "source" / name, ignore=shutil.ignore_patterns("__pycache__")
        )
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(REPOSITORY / name, folder / "source")
    command = [sys.executable, "-m", "pip", "wheel", "--no-deps", "--no-build-isolation", "--no-index"]
    subprocess.run(
        [*command, "--quiet", "-w", folder, folder / "source"], check=True, timeout=120, capture_output=True
    )
    (file,) = folder.glob("sllm-*.whl")
    with zipfile.ZipFile(file) as package:
        package.extractall(folder / "installed")
    return folder / "installed"


def test_names_are_paths_without_a_suffix(tmp_path, monkeypatch):
    assert {"demo", "compare", "prepare", "train-segmenter", "paper/opt-125m-h1"} <= set(names())
    assert preset_or_file("demo") == str(FOLDER / "demo.yaml")
    assert preset_or_file("x/demo.yaml") == "x/demo.yaml"
    monkeypatch.chdir(tmp_path)
    (tmp_path / "demo").write_text("")  # a file of the user's goes first
    assert preset_or_file("demo") == "demo"


def test_an_unknown_name_lists_the_presets():
    with pytest.raises(ConfigError, match=r"'dmeo': did you mean demo\? presets are compare, .*, demo, "):
        preset_or_file("dmeo")
    result = CliRunner().invoke(cli.app, ["run", "nothing-like-it", "--dry-run"])
    assert result.exit_code == 2 and "presets are" in result.stderr and result.stderr.count("\n") == 1


def test_verbs_take_names(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert CliRunner().invoke(cli.app, ["plan", "paper/opt-125m-h1", "--json"]).exit_code == 0
    result = CliRunner().invoke(cli.app, ["generate", "demo", "models.sllm=m", "--dry-run"])
    assert result.exit_code == 0, result.stderr


def test_the_wheel_alone_finds_them(wheel, tmp_path):
    """In another folder, without the repository on the path."""
    shipped = {path.relative_to(REPOSITORY) for path in (REPOSITORY / "jobs" / "presets").rglob("*.yaml")}
    packages = ("segmenters", "pipeline", "infra", "jobs")
    shipped |= {
        path.relative_to(REPOSITORY) for name in packages for path in (REPOSITORY / name).rglob("*.py")
    }
    shipped |= {Path(f"segmenters/learned/weights/learned_v{n}.safetensors") for n in (1, 2)}
    assert all((wheel / path).is_file() for path in shipped)
    assert not (wheel / "tests").exists()
    program = "import sys; from jobs.cli import main; assert 'installed/jobs' in sys.modules['jobs'].__file__; main()"
    done = subprocess.run(
        [sys.executable, "-P", "-c", program, "run", "demo", "output=mine", "--dry-run"],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(wheel)},
        capture_output=True,
        text=True,
        timeout=100,
    )
    assert done.returncode == 0, done.stderr
    (tmp_path / "shown.yaml").write_text(done.stdout)
    expected = load_config(str(REPOSITORY / "jobs/presets/demo.yaml"), ["output=mine"])
    assert load_config(str(tmp_path / "shown.yaml")) == expected
