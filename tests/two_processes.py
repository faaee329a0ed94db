"""Which of the two processes of `make test` runs which test."""

import functools
from pathlib import Path

from xdist.scheduler import LoadScopeScheduling

ROOT = Path(__file__).parents[1]
ON_RAY = "on Ray clusters"


@functools.cache
def group(file: str) -> str:
    """The group of a file's tests, all of which one process runs. Those on Ray clusters are one group, so that there is
    one cluster of a session and no second of another test at the same time; the others of a folder share fixtures."""
    text = (ROOT / file).read_text()
    return ON_RAY if "ray_cluster" in text or "pytest.mark.ray" in text else str(Path(file).parent)


class ByGroup(LoadScopeScheduling):
    """A process that has run a group takes the next one."""

    def _split_scope(self, nodeid: str) -> str:
        return group(nodeid.split("::")[0])
