"""Names of files that a file states: each has to stay in the folder of that file."""

from collections.abc import Iterable
from pathlib import PurePosixPath, PureWindowsPath


def first_outside(names: Iterable[object]) -> object | None:
    """The first that is no name of a file below the folder: absolute, with `..`, a drive, a URL; None if all are."""
    return next((name for name in names if not (isinstance(name, str) and _is_inside(name))), None)


def _is_inside(name: str) -> bool:
    """By the rules of POSIX and of Windows, whatever this machine has: a folder may be moved to another."""
    parts = {*PurePosixPath(name).parts, *PureWindowsPath(name).parts}
    return bool(parts) and ".." not in parts and not PureWindowsPath(name).anchor and "://" not in name
