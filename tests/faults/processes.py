"""Processes of this machine, by their parents and their titles, from /proc."""

import contextlib
import os
import signal
import time
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path


def children() -> dict[int, list[int]]:
    """The children of each process."""
    found: dict[int, list[int]] = defaultdict(list)
    for folder in Path("/proc").iterdir():
        if folder.name.isdigit():
            with contextlib.suppress(OSError):
                after_name = (folder / "stat").read_text().rpartition(")")[2].split()
                found[int(after_name[1])].append(int(folder.name))
    return found


def descendants(pid: int) -> list[int]:
    """All processes below `pid`, parents first."""
    of = children()
    found = list(of[pid])
    for child in found:
        found += of[child]
    return found


def title(pid: int) -> str:
    """The command line of a process, which Ray's workers set to what they do; empty where it has ended."""
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace").strip()
    except OSError:
        return ""


def send(pid: int, number: int) -> None:
    """Send a signal; a process that has ended is left alone."""
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, number)


def kill_all(pid: int) -> None:
    """SIGKILL for a process and all below it."""
    below = descendants(pid)
    for each in (pid, *below):
        send(each, signal.SIGKILL)


def wait_for(condition: Callable[[], bool], seconds: float, every: float = 0.05) -> bool:
    """Wait until the condition holds -> whether it did in time."""
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(every)
    return True
