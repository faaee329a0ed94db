"""In every process of a try, before anything else: the wall clock is that of the machine plus the seconds in the file
SLLM_FAULTS_CLOCK."""

import os
import time

_CLOCK = os.environ.get("SLLM_FAULTS_CLOCK")
_time, _time_ns = time.time, time.time_ns


def _offset() -> float:
    try:
        with open(_CLOCK) as file:  # noqa: PTH123 - pathlib takes the time as well
            return float(file.read() or 0)
    except (OSError, ValueError):
        return 0.0


def shifted() -> float:
    """In place of `time.time`; it has a name, so that objects that hold it can be pickled."""
    return _time() + _offset()


def shifted_ns() -> int:
    """In place of `time.time_ns`."""
    return _time_ns() + int(_offset() * 1e9)


if _CLOCK:
    time.time, time.time_ns = shifted, shifted_ns
