"""Output of a command: progress and errors on stderr, its result on stdout."""

import contextlib
import errno
import functools
import json
import logging
import os
import sys
import traceback
from collections.abc import Callable, Iterator
from typing import Any

import typer
from rich.text import Text

from jobs.runner.arguments import with_paths
from jobs.runner.printable_console import PrintableConsole
from pipeline.errors import ConfigError, CorpusError, ModelError, ShardError, SllmError
from pipeline.printable import printable
from pipeline.redaction import redacted
from segmenters.contract import SegmenterError

BAD_INPUT, FAILED, INTERRUPTED = 2, 1, 130
"""Exit codes."""
_BAD_INPUT_ERRORS = (ConfigError, CorpusError, ShardError, ModelError, SegmenterError)


def say(line: str) -> None:
    """Print a line on stderr, secrets masked."""
    print(printable(redacted(line)), file=sys.stderr, flush=True)


def _with_printable_message(record: logging.LogRecord) -> bool:
    record.msg, record.args = printable(redacted(record.getMessage())), ()
    return True


logging.getLogger("sllm").addFilter(_with_printable_message)


def is_debugging() -> bool:
    """Whether tracebacks are shown (`--debug`, SLLM_DEBUG)."""
    return os.environ.get("SLLM_DEBUG", "") not in ("", "0")


def answering_errors(command: Callable[..., None]) -> Callable[..., None]:
    """The command with resolved paths; errors that a user can fix are printed in one line.

    It exits with 2 for bad input, 1 for a job that failed, 130 for Ctrl-C.
    """

    @functools.wraps(command)
    def answering(*arguments: Any, **options: Any) -> None:
        try:
            command(*arguments, **with_paths(command, options))
        except KeyboardInterrupt:
            _complain("interrupted; what is finished is kept, and the same command continues from there")
            raise typer.Exit(INTERRUPTED) from None
        except Exception as error:
            ours = _mendable(error)
            if ours is None:
                shown = traceback.format_exc()
                if printable(redacted(shown)) == shown:
                    raise
                print(printable(redacted(shown)), file=sys.stderr)
                raise typer.Exit(FAILED) from None
            if is_debugging():
                print(printable(redacted(traceback.format_exc())), file=sys.stderr)
            _complain(" ".join(redacted(str(ours)).split()))
            raise typer.Exit(BAD_INPUT if isinstance(ours, _BAD_INPUT_ERRORS) else FAILED) from None

    return answering


@contextlib.contextmanager
def only_result_on_stdout(wanted: bool) -> Iterator[Callable[[Any], None]]:
    """Yield a function that prints JSON on stdout; if `wanted`, all other output goes to stderr, also that of other
    processes and of C code."""
    if not wanted:
        yield lambda _tree: None
        return
    sys.stdout.flush()
    stdout = os.dup(1)
    os.dup2(2, 1)
    results: list[Any] = []
    try:
        with contextlib.redirect_stdout(sys.stderr):
            yield results.append
    finally:
        os.dup2(stdout, 1)
        os.close(stdout)
    for tree in results:
        print(printable(json.dumps(tree, indent=2, ensure_ascii=False)))


def _mendable(error: BaseException | None) -> BaseException | None:
    """This error, or the one that caused it, if it is ours."""
    while error is not None:
        in_task = getattr(
            error, "cause", None
        )  # Ray wraps the error of a task, with its traceback as message
        if isinstance(error, SllmError | SegmenterError) and in_task is None:
            return error
        if isinstance(error, OSError) and error.errno in _REMEDIES:
            path = f" at {error.filename}" if error.filename is not None else ""
            return SllmError(
                f"{error.strerror}{path}: {_REMEDIES[error.errno]}, then run the same command again"
            )
        error = in_task or error.__cause__
    return None


_REMEDIES = {
    **dict.fromkeys((errno.ENOSPC, errno.EDQUOT, errno.EFBIG), "free some space, or name a folder with more"),
    **dict.fromkeys((errno.EACCES, errno.EPERM, errno.EROFS), "allow it, or name another folder"),
}
"""Remedies by the error number of a file system."""


def _complain(message: str) -> None:
    PrintableConsole(stderr=True, soft_wrap=True).print(
        Text.assemble(("error: ", "bold red"), (message, "red"))
    )
