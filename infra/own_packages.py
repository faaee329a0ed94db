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


def named_as_ours(folder: Path) -> list[str]:
    """Names of the files and folders of a folder that Python would import in place of our packages."""
    return [name for package in NAMES for name in (package, f"{package}.py") if (folder / name).exists()]


def hides_ours(folder: Path) -> bool:
    """Whether a working folder, searched first, would hide the code that runs now; another checkout would too."""
    return folder.resolve() != ROOT and bool(named_as_ours(folder))


def shadowing(folder: Path) -> list[str]:
    """What a submitted job must not get of a folder: all that is named as our packages and is not ours."""
    return [] if is_checkout(folder) else named_as_ours(folder)
