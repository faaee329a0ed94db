"""`python -m tests.matrix [oldest] [newest]`: installs the dependencies and runs the tests with them.

oldest: each lower bound of `pyproject.toml`, exactly. newest: the newest releases that its bounds allow. Both without
`constraints.txt`. An environment stays below `.matrix`, and is used again until `pyproject.toml` changes.
"""

import argparse
import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path

ROOT = Path(__file__).parents[2]
EXTRAS = ("lora", "filters", "s3", "postgres", "openlineage")
"""Extras whose lower bounds are tried too; what tests alone need (`dev`) is always the newest."""
QUICK = (
    "tests/segmenters",
    "tests/pipeline",
    "tests/infra/tracking/test_run.py",
    "tests/infra/test_deepspeed_engine.py",
    "tests/jobs/test_run.py",
    "tests/jobs/test_verbs.py",
    "tests/jobs/test_prepare.py",
    "tests/jobs/lineage",
)
"""What runs if no arguments of pytest are given: each library at work, without the long tests of faults."""
LEFT_OPEN = ("-W", "ignore::pytest.PytestUnraisableExceptionWarning")
"""Of the oldest: Ray 2.50 leaves files and processes to the garbage collector. What is ours `make test` finds."""
_EXTRA = re.compile(r"sllm\[.*\]")


def requirements() -> tuple[list[str], list[str]]:
    """What sllm needs, and what its tests need beside that, as pip writes them."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    extras = project["optional-dependencies"]
    ours = [*project["dependencies"], *(one for extra in EXTRAS for one in extras[extra])]
    return ours, [one for one in extras["dev"] if not _EXTRA.match(one)]


def oldest(requirement: str) -> str:
    """The requirement with its lower bound as the only version: `ray[train]>=2.50` becomes `ray[train]==2.50`."""
    name, bound = requirement.split(";")[0].split(">=")
    return f"{name}=={bound.split(',')[0].strip()}"


def environment(kind: str) -> Path:
    """The folder of an environment with the oldest or newest dependencies, installed if it is not there yet."""
    folder = ROOT / ".matrix" / kind
    done = folder / "installed.txt"
    ours, tests = requirements()
    wanted = [*(map(oldest, ours) if kind == "oldest" else ours), *tests]
    if done.exists() and done.read_text().splitlines() == wanted:
        return folder
    uv = [sys.executable, "-m", "uv", "--quiet"]
    subprocess.run([*uv, "venv", "--clear", "--python", sys.executable, folder], check=True)
    # One command: the resolver must see all of them.
    subprocess.run([*uv, "pip", "install", "--python", folder / "bin/python", *wanted], check=True)
    done.write_text("\n".join(wanted))
    return folder


def main() -> int:
    """Exit code: that of the first environment whose tests fail."""
    parser = argparse.ArgumentParser(prog="python -m tests.matrix", description=__doc__)
    parser.add_argument("kinds", nargs="*", metavar="oldest|newest", default=["oldest", "newest"])
    parser.add_argument("--pytest", nargs=argparse.REMAINDER, default=list(QUICK), help="arguments of pytest")
    options = parser.parse_args()
    code = 0
    for kind in options.kinds:
        folder = environment(kind)
        print(f"{kind}: {folder}", flush=True)
        kept = {name: value for name, value in os.environ.items() if name != "VIRTUAL_ENV"}
        found = subprocess.run(
            [
                folder / "bin/python",
                "-m",
                "pytest",
                "-q",
                *(LEFT_OPEN if kind == "oldest" else ()),
                *options.pytest,
            ],
            cwd=ROOT,
            env={**kept, "PATH": f"{folder / 'bin'}:{kept['PATH']}", "PYTHONPATH": str(ROOT)},
        )
        code = code or found.returncode
    return code


if __name__ == "__main__":
    sys.exit(main())
