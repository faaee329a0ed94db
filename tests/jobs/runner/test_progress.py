"""Progress in a terminal, in a narrow one, without colours, in a log and in CI."""

import contextlib
import io
import os
import pty
import re
import sys
import threading
import time
from collections.abc import Iterator

import pytest

from jobs.runner import progress
from jobs.runner.progress import TrainingProgress, WorkProgress, amount, duration, time_left

CURSOR = "\x1b[?25l"
COLOUR = re.compile(r"\x1b\[[0-9;]*m")


class Terminal:
    """A pseudo-terminal as stderr; `text` ends it and gives what was sent to it."""

    def __init__(self) -> None:
        master, slave = pty.openpty()
        self.file = os.fdopen(slave, "w")
        self._sent: list[bytes] = []
        self._reader = threading.Thread(target=self._read, args=[master])
        self._reader.start()

    def _read(self, master: int) -> None:
        try:
            while data := os.read(master, 65536):
                self._sent.append(data)
        except OSError:  # the other end is closed
            pass
        os.close(master)

    def text(self) -> str:
        self.file.close()
        self._reader.join()
        return b"".join(self._sent).decode()


@pytest.fixture
def terminal(monkeypatch: pytest.MonkeyPatch) -> Iterator[Terminal]:
    for name in ("CI", "NO_COLOR", "FORCE_COLOR", "TTY_COMPATIBLE", "TTY_INTERACTIVE", "COLUMNS"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.setenv("COLUMNS", "120")
    made = Terminal()
    yield made
    made.text()


def work(terminal: Terminal) -> None:
    with contextlib.redirect_stderr(terminal.file):
        draw()


def draw() -> None:
    with WorkProgress("prepare", "bytes") as drawn:
        done = drawn.begin("survey a\x1b]0;title\x07b", 4_000_000)
        for _ in range(4):
            time.sleep(0.02)
            done(1_000_000)
    with TrainingProgress("train-lm", 20) as drawn_training:
        for step in (10, 20):
            drawn_training.show(step, "nll/token 3.5, 1,000 tokens/s")


def test_a_terminal_gets_bars_and_no_raw_control_characters(terminal: Terminal) -> None:
    work(terminal)
    shown = terminal.text()
    assert CURSOR in shown and COLOUR.search(shown) and "━" in shown
    assert "4.0 MB of 4.0 MB" in shown and "MB/s" in shown and "20/20" in shown and "1,000 tokens/s" in shown
    assert "\x1b]0;" not in shown and "\\u001b]0;title\\u0007" in shown


def test_no_color_keeps_the_bars_without_colours(terminal: Terminal, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_COLOR", "1")
    work(terminal)
    shown = terminal.text()
    colours = {code for found in COLOUR.findall(shown) for code in found[2:-1].split(";") if code}
    assert CURSOR in shown and not colours & {
        str(code) for code in [*range(30, 39), *range(40, 49), *range(90, 108)]
    }


@pytest.mark.parametrize("columns", [40, 60, 80, 200])
def test_lines_are_never_wider_than_the_terminal(
    terminal: Terminal, monkeypatch: pytest.MonkeyPatch, columns: int
) -> None:
    monkeypatch.setenv("COLUMNS", str(columns))
    work(terminal)
    lines = re.split(r"[\r\n]+", re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", terminal.text()))
    assert max(map(len, lines)) <= columns and any("train-lm" in line for line in lines)


@pytest.mark.parametrize(("name", "value"), [("CI", "true"), ("TERM", "dumb")])
def test_ci_and_dumb_terminals_get_lines(
    terminal: Terminal, monkeypatch: pytest.MonkeyPatch, name: str, value: str
) -> None:
    monkeypatch.setenv(name, value)
    work(terminal)
    assert terminal.text().splitlines() == ["train-lm: step 10/20, nll/token 3.5, 1,000 tokens/s", LAST]


LAST = "train-lm: step 20/20, nll/token 3.5, 1,000 tokens/s"


def test_a_log_has_lines_with_rate_and_time_left(monkeypatch: pytest.MonkeyPatch) -> None:
    log, now = io.StringIO(), 100.0
    monkeypatch.setattr(sys, "stderr", log)
    monkeypatch.setenv("FORCE_COLOR", "1")  # colours are wanted, bars are not
    monkeypatch.setattr(progress.time, "monotonic", lambda: now)
    with WorkProgress("evaluate", "tokens") as drawn, TrainingProgress("train-lm", 100) as training:
        done = drawn.begin("lm", 4_000)
        unknown = WorkProgress("segment", "bytes").begin("segment", 0)
        for step in (10, 20, 30):
            now += 20.0
            done(1_000)
            training.show(step, "nll/token 3.5")
        unknown(3_000_000)
    assert log.getvalue().splitlines() == [
        "evaluate: lm: 1,000 tokens of 4,000 tokens, 50 tokens/s, 0:01:00 left",
        "train-lm: step 10/100, nll/token 3.5",
        "evaluate: lm: 2,000 tokens of 4,000 tokens, 50 tokens/s, 0:00:40 left",
        "train-lm: step 20/100, nll/token 3.5, 0:02:40 left",
        "evaluate: lm: 3,000 tokens of 4,000 tokens, 50 tokens/s, 0:00:20 left",
        "train-lm: step 30/100, nll/token 3.5, 0:02:20 left",
        "segment: 3.0 MB, 50.0 kB/s",
    ]


def test_figures(monkeypatch: pytest.MonkeyPatch) -> None:
    assert [duration(seconds) for seconds in (0, 59.6, 3_723)] == ["0:00:00", "0:01:00", "1:02:03"]
    assert [amount(number, "bytes") for number in (5, 1_500, 2e6, 3.25e9)] == [
        "5 bytes",
        "1.5 kB",
        "2.0 MB",
        "3.2 GB",
    ]
    monkeypatch.setattr(progress.time, "monotonic", lambda: 130.0)
    assert time_left(100.0, 0, 4) == time_left(100.0, 4, 4) == ""
    assert time_left(100.0, 1, 4) == ", about 0:01:30 left"
