"""A process without progress ends itself, after it said why."""

import signal
import subprocess
import sys

import pytest

SCRIPT = """
import sys, time
from infra.cluster import watchdog
watchdog.START_SECONDS = float(sys.argv[1])
dog = watchdog.Watchdog(0.5, lambda text: print(text, flush=True))
for _ in range(int(sys.argv[2])):
    time.sleep(0.1)
    dog.beat()
if sys.argv[3] == "close":
    dog.close()
time.sleep(2)
print("alive", flush=True)
"""


@pytest.mark.parametrize(
    ("start", "beats", "end", "lives"),
    [
        ("60", "0", "stuck", True),
        ("0", "0", "stuck", False),
        ("0", "10", "stuck", False),
        ("0", "3", "close", True),
    ],
)
def test_a_process_ends_where_beats_stop(start, beats, end, lives):
    process = subprocess.run(
        [sys.executable, "-c", SCRIPT, start, beats, end], capture_output=True, text=True, timeout=60
    )
    if lives:
        assert (process.returncode, process.stdout) == (0, "alive\n")
    else:
        assert process.returncode == -signal.SIGKILL
        assert "no progress for 0.5 s (ray.step_timeout_seconds)" in process.stdout
