"""The import path of a command: our packages first, the modules of the working folder last."""

import os
import sys
from pathlib import Path

_ROOT = Path(__file__).resolve().parents[2]


def set_import_path() -> None:
    """Let `segmenter.name=my_module:Class` find a module of the working folder, and a folder `jobs/` or `infra/` there
    not hide ours.

    The console command does not search the working folder, `python -m` searches it first: here it is searched last.
    In a checkout of sllm nothing changes.
    """
    try:
        here = os.getcwd()  # noqa: PTH109 - as Python writes it into the path
    except FileNotFoundError:
        return
    if Path(here).resolve() == _ROOT:
        return
    sys.path[:] = [entry for entry in sys.path if entry not in ("", here)]
    if str(_ROOT) not in sys.path:  # an editable installation is searched after all folders
        sys.path.append(str(_ROOT))
    sys.path.append(here)

    from infra.own_packages import hides_ours

    if hides_ours(Path(here)):
        os.environ["PYTHONSAFEPATH"] = "1"  # processes that we start would search the working folder first
