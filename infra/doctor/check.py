"""The result of one check."""

import json
import os
import subprocess
import sys
from dataclasses import dataclass
from typing import Any, Literal

from infra.own_packages import ROOT

State = Literal["ok", "warning", "error"]
"""`warning`: jobs run, but slower or without something; `error`: jobs that need it fail."""


@dataclass(frozen=True)
class Check:
    """What was looked at, what was found, and what to do about it."""

    name: str
    state: State
    found: str
    remedy: str = ""
    """Empty where nothing is to be done."""


def answer_of(program: str, seconds: float) -> dict[str, Any] | str:
    """The JSON object that a Python program prints last, in a process of its own -> it, or why there is none.

    A library that cannot be imported may end its process; here that is an answer too.
    """
    environment = os.environ | {
        "PYTHONPATH": os.pathsep.join([str(ROOT), *sys.path[1:]]),
        "PYTHONWARNINGS": "ignore",
    }
    try:
        done = subprocess.run(  # noqa: S603 - our own program
            [sys.executable, "-c", program], capture_output=True, text=True, timeout=seconds, env=environment
        )
    except subprocess.TimeoutExpired:
        return f"no answer within {seconds:g} s"
    lines = done.stdout.strip().splitlines()
    if done.returncode == 0 and lines:
        answer: dict[str, Any] = json.loads(lines[-1])
        return answer
    errors = [line for line in done.stderr.strip().splitlines() if line.strip()]
    return errors[-1].strip() if errors else f"its process ended with exit code {done.returncode}"
