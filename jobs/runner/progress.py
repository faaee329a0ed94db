"""The progress of long work on stderr, with rate and time left: bars in a terminal, lines in a log.

A log gets a line every `LOG_SECONDS`: where stderr is no terminal (a pipe, a file, the log of a submitted job), where
the terminal cannot move its cursor (TERM=dumb), and in CI.
"""

import os
import threading
import time
from collections.abc import Callable
from typing import Literal, Self

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    Task,
    TaskID,
    TextColumn,
    TimeRemainingColumn,
)
from rich.table import Column
from rich.text import Text

from jobs.runner.console import say
from jobs.runner.printable_console import PrintableConsole
from pipeline.printable import printable

LOG_SECONDS = 10.0
NARROW_COLUMNS = 70
"""A narrower terminal has no room for a bar."""
Unit = Literal["bytes", "tokens", "parameters"]


def draws_bars(console: Console) -> bool:
    """Whether bars can be drawn and replaced on this console."""
    return console.file.isatty() and console.is_interactive and os.environ.get("CI", "") in ("", "0", "false")


def duration(seconds: float) -> str:
    """Hours, minutes and seconds: `0:03:20`."""
    whole = round(seconds)
    return f"{whole // 3600}:{whole // 60 % 60:02}:{whole % 60:02}"


def time_left(began: float, done: int, total: int) -> str:
    """`, about 0:03:20 left`, for equal pieces of work since `began` (of `time.monotonic`); empty before the first."""
    if not 0 < done < total:
        return ""
    return f", about {duration((time.monotonic() - began) / done * (total - done))} left"


def amount(number: float, unit: Unit) -> str:
    """A number of things: `12,345 tokens`; bytes in decimal units: `1.5 MB`."""
    if unit != "bytes":
        return f"{number:,.0f} {unit}"
    for name, size in (("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if number >= size:
            return f"{number / size:,.1f} {name}"
    return f"{number:,.0f} bytes"


class WorkProgress:
    """Draws the passes of a job over work of a known size."""

    def __init__(self, title: str, unit: Unit, is_drawn: bool = True) -> None:
        self._title, self._unit, self._is_drawn = title, unit, is_drawn
        console = PrintableConsole(stderr=True)
        self._bars = _bars(console, _Amount(unit)) if draws_bars(console) else None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_error: object) -> None:
        if self._bars is not None and self._bars.tasks:
            self._bars.stop()

    def begin(self, name: str, total: float) -> Callable[[float], None]:
        """Start a pass over so many things (0: it is not known) -> a function to call with the number just done, from
        any thread."""
        if not self._is_drawn:
            return lambda more: None
        if self._bars is None:
            return _LoggedPass(
                f"{self._title}: {name}" if name != self._title else name, total, self._unit
            ).advance
        self._bars.start()
        bars, task = self._bars, self._bars.add_task(printable(name), total=total or None)
        return lambda more: bars.advance(task, more)


class _LoggedPass:
    """Prints a line of a pass every `LOG_SECONDS`; none for one that is shorter."""

    def __init__(self, name: str, total: float, unit: Unit) -> None:
        self._name, self._total, self._unit = name, total, unit
        self._done = 0.0
        self._began = self._logged = time.monotonic()
        self._lock = threading.Lock()

    def advance(self, more: float) -> None:
        with self._lock:
            self._done += more
            now = time.monotonic()
            is_last = 0 < self._total <= self._done and self._logged > self._began
            if now - self._logged <= LOG_SECONDS and not is_last:
                return
            self._logged = now
            rate = self._done / max(now - self._began, 1e-9)
            of, left = "", ""
            if self._total:
                of = f" of {amount(self._total, self._unit)}"
                left = f", {duration(max(self._total - self._done, 0.0) / max(rate, 1e-9))} left"
            say(f"{self._name}: {amount(self._done, self._unit)}{of}, {amount(rate, self._unit)}/s{left}")


class TrainingProgress:
    """Draws the figures of each reported step of a training."""

    def __init__(self, title: str, steps: int) -> None:
        self.title, self.steps = title, steps
        console = PrintableConsole(stderr=True)
        self._logged_at = 0.0
        self._first: tuple[int, float] | None = None
        self._task = TaskID(0)
        figures = TextColumn("{task.fields[figures]}", markup=False, table_column=_one_line())
        self._bar = _bars(console, MofNCompleteColumn(), figures) if draws_bars(console) else None

    def __enter__(self) -> Self:
        if self._bar is not None:
            self._bar.start()
            self._task = self._bar.add_task(self.title, total=self.steps, figures="starting ...")
        return self

    def __exit__(self, *_error: object) -> None:
        if self._bar is not None:
            self._bar.stop()

    def show(self, step: int, figures: str, is_milestone: bool = False) -> None:
        """Draw one reported step; a log has a line of each milestone."""
        now = time.monotonic()
        if self._first is None:
            self._first = (step, now)
        if self._bar is not None:
            self._bar.update(self._task, completed=step, figures=printable(figures))
        elif now - self._logged_at > LOG_SECONDS or step == self.steps or is_milestone:
            self._logged_at = now
            say(f"{self.title}: step {step}/{self.steps}, {figures}{self._time_left(step, now)}")

    def _time_left(self, step: int, now: float) -> str:
        """The time that the steps left take at the speed since the first reported step."""
        first_step, began = self._first or (step, now)
        if not first_step < step < self.steps:
            return ""
        return f", {duration((now - began) / (step - first_step) * (self.steps - step))} left"


def _bars(console: Console, figure: ProgressColumn, *others: ProgressColumn) -> Progress:
    """Bars with a name, what is done, the time left, and more; in a narrow terminal only name, figure and time."""
    name = TextColumn("{task.description}", markup=False, table_column=_one_line())
    if console.width < NARROW_COLUMNS:
        return Progress(name, figure, TimeRemainingColumn(), console=console)
    bar = BarColumn(bar_width=20 if console.width < 110 else 40)
    return Progress(name, bar, figure, TimeRemainingColumn(), *others, console=console)


def _one_line() -> Column:
    return Column(no_wrap=True, overflow="ellipsis")


class _Amount(ProgressColumn):
    """What is done, of how much, and how fast."""

    def __init__(self, unit: Unit) -> None:
        super().__init__(_one_line())
        self._unit = unit

    def render(self, task: Task) -> Text:
        speed = task.finished_speed or task.speed
        rate = f", {amount(speed, self._unit)}/s" if speed else ""
        total = "" if task.total is None else f" of {amount(task.total, self._unit)}"
        done = amount(task.completed, self._unit)
        if task.total is not None and self._unit != "bytes":
            done = done.partition(" ")[0]
        return Text(f"{done}{total}{rate}")


def figures_line(metrics: dict[str, float]) -> str:
    """The figures of a step on one line: nats per document token, tokens/s."""
    parts = [f"nll/token {metrics['train/nll_per_token']:.3f}"]
    if "dev/nll_per_token" in metrics:
        parts.append(f"dev {metrics['dev/nll_per_token']:.3f}")
    if "train/token_accuracy" in metrics:
        parts.append(f"accuracy {metrics['train/token_accuracy']:.1%}")
    parts.append(f"{metrics['train/tokens_per_second']:,.0f} tokens/s")
    return ", ".join(parts)
