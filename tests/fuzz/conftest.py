"""Each target is fed many damaged inputs; whatever it does but give a result or raise one of our errors is a failure.

`SLLM_SOAK_FUZZ` is the number of runs of all targets together. Run `number` of a target depends on nothing but its
name and that number: `SLLM_FUZZ_ONLY=NUMBER pytest tests/fuzz -k TARGET` does one again. After a crash of the process
the number is in the file `current-run` of the test's temporary folder.
"""

import contextlib
import faulthandler
import json
import math
import os
import random
import resource
import shutil
import signal
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from pipeline.errors import SllmError
from segmenters import SegmenterError

RUNS = int(os.environ.get("SLLM_SOAK_FUZZ", "12000"))
ONLY = os.environ.get("SLLM_FUZZ_ONLY")
MEMORY = Path("/dev/shm")
HANG_SECONDS = 20.0
MORE_MEMORY = 4 * 2**30
SHOWN = 20
"""Kinds of failures after which a target stops."""

_SHARES = {
    **{"text": 0.07, "jsonl": 0.12, "csv": 0.08, "tsv": 0.03, "conllu": 0.03, "unknown format": 0.02},
    **{
        "gzip": 0.03,
        "zstd": 0.02,
        "bzip2": 0.01,
        "xz": 0.01,
        "parquet": 0.02,
        "arrow": 0.02,
        "arrow stream": 0.01,
    },
    **{"yaml": 0.03, "overrides": 0.12, "manifest": 0.16, "job record": 0.08, "lineage": 0.02},
    **{"shard": 0.01, "shards of another manifest": 0.005, "progress": 0.01},
    **{"checkpoint": 0.01, "model": 0.0003, "tokenizer": 0.001, "segmenter weights": 0.0005},
    **{"gold": 0.02, "raw text": 0.003},
    **{"punctuation_v1": 0.02, "reference_v1": 0.04, "learned_v1": 0.005, "spacy_v1": 0.01},
    **{"punctuation_v2": 0.02, "learned_v2": 0.005, "fixed_v1": 0.03, "wtpsplit_v1": 0.0001},
}
"""Of the runs, by target: the quick ones have more."""


class Hang(BaseException):
    """A run that did not end."""


class Trespass(BaseException):
    """A run that would have touched what lies outside its folder."""


class _Guard:
    """Refuses what a run may not do; an audit hook stays for good, so there is one, which rests between runs."""

    _MAY_NOT = frozenset(
        {"subprocess.Popen", "os.system", "os.exec", "os.posix_spawn", "socket.connect", "pickle.find_class"}
    )
    _CHANGES = frozenset(
        [
            f"os.{name}"
            for name in ("remove", "rename", "mkdir", "rmdir", "link", "symlink", "truncate", "chmod")
        ]
        + [f"shutil.{name}" for name in ("rmtree", "move", "copyfile", "unpack_archive")]
    )

    def __init__(self) -> None:
        self.allowed: str | None = None
        sys.addaudithook(self._look)

    def _look(self, event: str, details: tuple[Any, ...]) -> None:
        if self.allowed is None:
            return
        if event in self._MAY_NOT:
            raise Trespass(f"{event} {details!r}")
        if event == "open":
            path, _, flags = details
            if not isinstance(flags, int) or not flags & (os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC):
                return
            paths = [path]
        elif event in self._CHANGES:
            paths = list(details)
        else:
            return
        for path in paths:
            if isinstance(path, str | bytes | os.PathLike):
                real = os.path.realpath(os.fsdecode(path))
                if not real.startswith(self.allowed) and real != os.devnull:
                    raise Trespass(f"{event} {real}")


_guard = _Guard()


class Fuzz:
    """Runs a target on many inputs."""

    def __init__(
        self, folder: Path, found: Path, capture: Any, record: Callable[[str, object], None]
    ) -> None:
        self.folder = folder
        """What a run may write to."""
        self._found, self._capture, self._record = found, capture, record

    def __call__(
        self, target: str, make: Callable[[random.Random], Any], check: Callable[[Any], object]
    ) -> None:
        """Give `check` inputs that `make` makes. Fails with each kind of failure, and where its input lies."""
        failures: dict[tuple[str, ...], str] = {}
        runs = math.ceil(RUNS * _SHARES[target] / sum(_SHARES.values()))
        numbers = range(runs) if ONLY is None else [int(ONLY)]
        spent, slowest = 0.0, (0.0, 0)
        with (self._found / "current-run").open("wb", buffering=0) as current, self._ending_hangs() as arm:
            for number in numbers:
                arm()
                current.seek(0)
                current.write(f"{target}: {number:<20}\n".encode())  # all that is left of a crash
                start = time.process_time()
                case = make(random.Random(f"{target} {number}"))
                kind, traceback = self._failure(check, case)
                seconds = time.process_time() - start
                spent, slowest = spent + seconds, max(slowest, (seconds, number))
                if kind is None or kind in failures:
                    continue
                case = self._smaller(check, case, kind)
                file = self._found / f"failure-{len(failures)}"
                file.write_bytes(_as_bytes(case))
                failures[kind] = (
                    f"{target}, run {number}, input {file} {_as_bytes(case)[:300]!r}\n{traceback}"
                )
                if len(failures) == SHOWN:
                    break
        slow = f"slowest {slowest[0]:.2f} s (run {slowest[1]})"
        self._record("fuzz", (target, number + 1, spent, len(failures), slow))
        if failures:
            pytest.fail("\n".join(failures.values()), pytrace=False)

    def _ending_hangs(self) -> contextlib.AbstractContextManager[Callable[[], None]]:
        with self._capture.global_and_fixture_disabled():
            return _ending_hangs(os.dup(2))

    def _failure(self, check: Callable[[Any], object], case: Any) -> tuple[tuple[str, ...] | None, str]:
        signal.setitimer(signal.ITIMER_REAL, HANG_SECONDS)
        _guard.allowed = str(self.folder.resolve()) + "/"
        try:
            check(case)
            return None, ""
        except (SllmError, SegmenterError) as error:
            where = _ours(error)
            return (None, "") if str(error).strip() else (("no message", *where), f"no message, at {where}")
        except KeyboardInterrupt:
            raise
        except BaseException as error:
            where = _ours(error)
            return (type(error).__name__, *where), "".join(traceback.format_exception(error, limit=-6))
        finally:
            _guard.allowed = None
            signal.setitimer(signal.ITIMER_REAL, 0)

    def _smaller(self, check: Callable[[Any], object], case: Any, kind: tuple[str, ...]) -> Any:
        """What is left of the input when parts that do not matter are taken out, within some seconds."""
        if not isinstance(case, str | bytes) or kind[0] == "Hang":
            return case
        end, size = time.monotonic() + 5, len(case)
        while size:
            size = size // 2
            position = 0
            while size and position < len(case) and time.monotonic() < end:
                shorter = case[:position] + case[position + size :]
                if self._failure(check, shorter)[0] == kind:
                    case = shorter
                else:
                    position += size
        return case


@contextlib.contextmanager
def _ending_hangs(stderr: int) -> Iterator[Callable[[], None]]:
    """Yields what is called before each run: it ends the last one's time and begins the next one's."""

    def hang(*_: object) -> None:
        raise Hang(f"not done after {HANG_SECONDS} s")

    before = signal.signal(signal.SIGALRM, hang)
    armed = 0.0

    def arm() -> None:
        nonlocal armed
        # C code does not react to signals: a thread of the fault handler ends the process. Arming it costs more.
        if time.monotonic() - armed > HANG_SECONDS:
            armed = time.monotonic()
            faulthandler.dump_traceback_later(4 * HANG_SECONDS, exit=True, file=stderr)

    try:
        yield arm
    finally:
        faulthandler.cancel_dump_traceback_later()
        signal.signal(signal.SIGALRM, before)
        os.close(stderr)


def _ours(error: BaseException) -> tuple[str, ...]:
    """The innermost frame in our code."""
    frames = [
        f"{Path(frame.filename).relative_to(Path.cwd())}:{frame.lineno} {frame.name}"
        for frame in traceback.extract_tb(error.__traceback__)
        if Path(frame.filename).is_relative_to(Path.cwd()) and ".venv" not in frame.filename
    ]
    return tuple(frames[-1:])


def _as_bytes(case: Any) -> bytes:
    if isinstance(case, bytes):
        return case
    if isinstance(case, str):
        return case.encode("utf-8", "surrogatepass")
    try:
        return json.dumps(case).encode()
    except (TypeError, ValueError):
        return repr(case).encode("utf-8", "surrogatepass")


@pytest.fixture
def fuzz(
    fast_folder: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    pytestconfig: pytest.Config,
    record_property: Callable[[str, object], None],
) -> Iterator[Fuzz]:
    """Call it with a target's name, what makes an input, and what is done with it."""
    monkeypatch.setattr(os, "fsync", lambda descriptor: None)  # thousands of files, none of them kept
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    with _bounded_memory():
        capture = pytestconfig.pluginmanager.getplugin("capturemanager")
        yield Fuzz(fast_folder, tmp_path, capture, record_property)


@contextlib.contextmanager
def _bounded_memory() -> Iterator[None]:
    """A small input that asks for gigabytes fails, and takes nobody else's memory."""
    pages = Path("/proc/self/statm")
    if not pages.is_file():
        yield
        return
    before = resource.getrlimit(resource.RLIMIT_AS)
    used = int(pages.read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (used + MORE_MEMORY, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_AS, before)


@pytest.fixture
def fast_folder(tmp_path: Path) -> Iterator[Path]:
    """In memory where the machine has such a folder: a disk can take longer to open a file than we to read it."""
    if not MEMORY.is_dir():
        yield tmp_path
        return
    folder = Path(tempfile.mkdtemp(prefix="sllm-fuzz-", dir=MEMORY))
    try:
        yield folder
    finally:
        shutil.rmtree(folder)


def pytest_terminal_summary(terminalreporter: Any) -> None:
    """Runs, CPU seconds and runs per second, by target."""
    reports = [*terminalreporter.getreports("passed"), *terminalreporter.getreports("failed")]
    figures = [value for one in reports for name, value in one.user_properties if name == "fuzz"]
    for target, runs, seconds, failures, slow in figures:
        kinds = f", {failures} kinds of failure" if failures else ""
        terminalreporter.write_line(
            f"fuzz {target:28} {runs:>9,} runs {seconds:>8.1f} CPU s {runs / seconds:>8,.0f} runs/s, {slow}{kinds}"
        )
    if figures:
        runs, seconds = sum(figure[1] for figure in figures), sum(figure[2] for figure in figures)
        terminalreporter.write_line(f"fuzz {'all':28} {runs:>9,} runs {seconds:>8.1f} CPU s")
