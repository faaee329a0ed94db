"""The wheel, in a fresh environment and outside of the repository, runs the tutorial: `make tutorial`.

The environment takes the packages of this one as they are, and sllm from the wheel. It takes minutes, so it runs where
`SLLM_TUTORIAL` is set.
"""

import dataclasses
import os
import subprocess
import sys
import sysconfig
import venv
import zipfile
from pathlib import Path

import pytest

from jobs.verbs import VERBS
from tests.docs.pages import REPOSITORY, blocks
from tests.docs.world import MODELS, SMALL, World, new_world

pytestmark = pytest.mark.skipif(
    not os.environ.get("SLLM_TUTORIAL"), reason="takes minutes: make tutorial, or set SLLM_TUTORIAL=1"
)
PACKAGES = ("segmenters", "pipeline", "infra", "jobs")
TUTORIAL = [block for block in blocks() if block.page.startswith("docs/tutorial/") and block.is_run]


@dataclasses.dataclass
class Installed(World):
    """A working folder in which `sllm` is the command of another environment."""

    command: Path = Path()

    def sllm(self, words: list[str]) -> tuple[int, str, str]:
        verb = VERBS[next(word for word in words if not word.startswith("-"))]
        small = [] if verb.has_own_arguments else [*MODELS, *SMALL]
        kept = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
        done = subprocess.run(
            [self.command, *words, *small],
            cwd=self.folder,
            env=kept | self.environment,
            capture_output=True,
            text=True,
        )
        return done.returncode, done.stdout, done.stderr


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    folder = tmp_path_factory.mktemp("wheel")
    source = folder / "source"  # setuptools writes into the folder that it builds
    names = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    for name in filter(None, names.split("\0")):
        if (REPOSITORY / name).is_file():
            (source / name).parent.mkdir(parents=True, exist_ok=True)
            (source / name).write_bytes((REPOSITORY / name).read_bytes())
    options = ("--no-deps", "--no-build-isolation", "--quiet", "--wheel-dir", folder)
    subprocess.run([sys.executable, "-m", "pip", "wheel", *options, source], check=True)
    (built,) = folder.glob("*.whl")
    return built


@pytest.fixture(scope="module")
def command(wheel, tmp_path_factory):
    """`sllm` of a fresh environment."""
    folder = tmp_path_factory.mktemp("environment")
    venv.create(folder, with_pip=False)
    python = folder / "bin" / "python"
    options = ("--no-deps", "--no-index", "--quiet")
    subprocess.run([sys.executable, "-m", "pip", "--python", python, "install", *options, wheel], check=True)
    (packages,) = folder.glob("lib/python*/site-packages")
    # A plain line of a .pth file adds a folder without the .pth files in it: not our own editable installation.
    (packages / "others.pth").write_text(sysconfig.get_path("purelib") + "\n")
    where = subprocess.run(
        [python, "-I", "-c", "import jobs; print(jobs.__file__)"], capture_output=True, text=True, check=True
    )
    assert where.stdout.startswith(str(folder)), where.stdout
    return folder / "bin" / "sllm"


def test_each_file_of_the_packages_is_in_the_wheel(wheel):
    listed = subprocess.run(
        ["git", "ls-files", *PACKAGES], cwd=REPOSITORY, capture_output=True, text=True, check=True
    )
    files = {name for name in listed.stdout.splitlines() if not name.startswith("infra/deploy/example/")}
    assert files and not files - set(zipfile.ZipFile(wheel).namelist())


def test_the_tutorial_runs(command, empty_store, tmp_path_factory):
    folder = tmp_path_factory.mktemp("outside")
    world = Installed(new_world(folder, empty_store).folder, {}, command=command)
    for block in TUTORIAL:
        world.run(block)
        assert not world.seen[block], f"{block}: {world.seen[block]}"
    assert (folder / "runs" / "mine" / "sllm" / "config.json").exists()
