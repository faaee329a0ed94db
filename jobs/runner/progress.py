"""The progress of training and evaluation: a bar in a terminal, or a line every 10 s in a log."""

import sys
import time
from collections.abc import Callable
from functools import partial
from types import TracebackType
from typing import Self

from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TaskID,
    TaskProgressColumn,
    TextColumn,
    TimeRemainingColumn,
)

from jobs.runner.printable_console import PrintableConsole

LOG_SECONDS = 10.0


class TrainingProgress:
    """Draws the metrics of each reported step on stderr."""

    def __init__(self, title: str, steps: int) -> None:
        self.title, self.steps = title, steps
        console = PrintableConsole(stderr=True)
        self._logged_at = 0.0
        self._bar: Progress | None = None
        self._task = TaskID(0)
        if console.is_terminal:
            self._bar = Progress(
                TextColumn("{task.description}"),
                BarColumn(),
                MofNCompleteColumn(),
                TimeRemainingColumn(),
                TextColumn("{task.fields[figures]}"),
                console=console,
            )

    def __enter__(self) -> Self:
        if self._bar is not None:
            self._bar.start()
            self._task = self._bar.add_task(self.title, total=self.steps, figures="starting ...")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._bar is not None:
            self._bar.stop()

    def show(self, metrics: dict[str, float]) -> None:
        """Draw one reported step."""
        step = int(metrics["step"])
        figures = figures_line(metrics)
        if self._bar is not None:
            self._bar.update(self._task, completed=step, figures=figures)
        elif (
            time.monotonic() - self._logged_at > LOG_SECONDS
            or step == self.steps
            or "dev/nll_per_token" in metrics
        ):
            self._logged_at = time.monotonic()
            print(f"{self.title}: step {step}/{self.steps}, {figures}", file=sys.stderr, flush=True)


class PartsProgress:
    """Draws how many tokens are scored on stderr: a bar for each pass in a terminal, or a line every 10 s in a log."""

    def __init__(self, title: str) -> None:
        self._title = title
        console = PrintableConsole(stderr=True)
        columns = (TextColumn("{task.description}"), BarColumn(), TaskProgressColumn(), TimeRemainingColumn())
        self._bar = Progress(*columns, console=console) if console.is_terminal else None

    def __enter__(self) -> Self:
        if self._bar is not None:
            self._bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._bar is not None:
            self._bar.stop()

    def begin(self, name: str, tokens: int) -> Callable[[int], None]:
        """Start a pass over so many tokens; returns a function to call with the number of tokens just done."""
        if self._bar is not None:
            return partial(self._bar.advance, self._bar.add_task(name, total=tokens))
        done, logged_at = 0, time.monotonic()

        def advance(more: int) -> None:
            nonlocal done, logged_at
            done += more
            if time.monotonic() - logged_at > LOG_SECONDS:
                logged_at = time.monotonic()
                line = f"{self._title}: {name}, {done:,} of {tokens:,} tokens"
                print(line, file=sys.stderr, flush=True)

        return advance


def figures_line(metrics: dict[str, float]) -> str:
    """The figures of a step on one line: nats per document token, tokens/s."""
    parts = [f"nll/token {metrics['train/nll_per_token']:.3f}"]
    if "dev/nll_per_token" in metrics:
        parts.append(f"dev {metrics['dev/nll_per_token']:.3f}")
    if "train/token_accuracy" in metrics:
        parts.append(f"accuracy {metrics['train/token_accuracy']:.1%}")
    parts.append(f"{metrics['train/tokens_per_second']:,.0f} tokens/s")
    return ", ".join(parts)
