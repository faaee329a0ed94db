"""Our packages and the working folder: a folder of the same name there must not be imported in place of one of ours."""

from pathlib import Path

NAMES = ("segmenters", "pipeline", "infra", "jobs")
"""Our top-level packages."""
ROOT = Path(__file__).resolve().parents[1]
"""The folder that holds them: a checkout, or where the package is installed."""


def is_checkout(folder: Path) -> bool:
    """Whether a folder holds our code, so that `python -m jobs` in it runs that code."""
    return all((folder / name / "__init__.py").is_file() for name in NAMES) and (
        (folder / "jobs" / "verbs.py").is_file() and (folder / "pipeline" / "lineage.py").is_file()
    )


def shadowing(folder: Path) -> list[str]:
    """Names of the files and folders of a working folder that Python would import in place of our packages."""
    if is_checkout(folder):
        return []
    return [name for package in NAMES for name in (package, f"{package}.py") if (folder / name).exists()]
