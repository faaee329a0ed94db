"""Where Ray workers look for our code."""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from infra.own_packages import ROOT, hides_ours


class _OursFirst(list[str]):
    """Ray workers search these folders from the last one to the first, before all others."""

    def extend(self, folders: Iterable[str]) -> None:
        super().extend([*folders, str(ROOT)])


def code_path_options() -> dict[str, Any]:
    """Options of `ray.init` with which workers import our packages although folders of the same names lie in the
    working folder, which Ray makes them search first; none where there are no such folders."""
    if not hides_ours(Path.cwd()):
        return {}
    from ray.job_config import JobConfig

    return {"job_config": JobConfig(_py_driver_sys_path=_OursFirst([str(ROOT)]))}
