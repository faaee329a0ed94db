"""Configurations that are shipped with the package, by name: `demo`, `paper/opt-125m-h1`."""

import difflib
from pathlib import Path

from pipeline.errors import ConfigError

FOLDER = Path(__file__).parents[1] / "presets"


def names() -> list[str]:
    """The names of all presets: their paths below `FOLDER`, without suffix."""
    return sorted(path.relative_to(FOLDER).with_suffix("").as_posix() for path in FOLDER.rglob("*.yaml"))


def preset_or_file(given: str) -> str:
    """The YAML file that `given` names: itself, if there is one or it looks like one, else the preset of this name.

    Raises `ConfigError` where it is neither.
    """
    path = Path(given)
    if (
        path.suffix in (".yaml", ".yml")
        or "://" in given
        or given.startswith(("~", "$", ".", "/"))
        or path.exists()
    ):
        return given
    known = names()
    if given in known:
        return str(FOLDER / f"{given}.yaml")
    near = difflib.get_close_matches(given, known, n=1)
    hint = f"did you mean {near[0]}? " if near else ""
    raise ConfigError(
        f"there is no file and no preset {given!r}: {hint}presets are {', '.join(known)}; without a file, begin with "
        "KEY=VALUE, such as output=runs/first"
    )
