"""Where Ray workers look for our code."""

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

from infra.own_packages import ROOT, shadowing

if TYPE_CHECKING:
    from ray.job_config import JobConfig


class _OursFirst(list[str]):
    """Ray workers search these folders from the last one to the first, before all others."""

    def extend(self, folders: Iterable[str]) -> None:
        super().extend([*folders, str(ROOT)])


def job_config() -> "JobConfig | None":
    """Options of `ray.init` with which workers import our packages although folders of the same names lie in the
    working folder, which Ray makes them search first; None where there are no such folders."""
    if not shadowing(Path.cwd()):
        return None
    from ray.job_config import JobConfig

    return JobConfig(_py_driver_sys_path=_OursFirst([str(ROOT)]))
