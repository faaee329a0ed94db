"""`sllm bench prepare`: text to tokens on disk, by sllm and by others, in one run on the same file.

Each contender is a process of its own: CPU seconds and memory of its process tree and wall time, start-up included.
Its cost on the first 8 documents alone is shown as start-up.
"""

import dataclasses
import gzip
import importlib.util
import json
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import psutil
from rich.table import Table

from jobs.bench.prepare_contenders import CONTENDERS
from jobs.runner.printable_console import PrintableConsole
from pipeline.config import load_config
from pipeline.corpus import Document, WorkUnitReader, find_sources, plan_work_units, survey_all
from pipeline.errors import ConfigError
from pipeline.printable import printable
from pipeline.tokenization.tokenizer import Tokenizer
from segmenters import DEFAULT_SEGMENTER

SAMPLE_SECONDS = 0.05


class ContenderError(Exception):
    """A contender failed."""


@dataclass(frozen=True)
class ContenderCost:
    """The cost of one contender."""

    contender: str
    cpu_seconds: float
    startup_cpu_seconds: float
    wall_seconds: float
    peak_megabytes: float
    """Peak memory of all its processes together; shared pages count once per process."""
    megabytes_per_cpu_second: float
    """Megabytes of UTF-8 text per CPU second, start-up included."""


def bench_prepare(
    file: str, tokenizer: str, num_workers: int, segmenter: str = DEFAULT_SEGMENTER, as_json: bool = False
) -> list[ContenderCost]:
    """Measure all installed contenders on `file` (anything that `data.inputs` takes), and print a table.

    `tokenizer` is a folder or hub name. A contender that fails is named and left out.
    Raises `ConfigError` for a file without documents.
    """
    texts = list(_texts(file))
    if not texts:
        raise ConfigError(f"{file} holds no document to measure on")
    size = sum(len(text.encode()) for text in texts)
    results = []
    with tempfile.TemporaryDirectory() as folder:
        Tokenizer.load(tokenizer).save(Path(folder, "tokenizer"))
        for name, rows in (("whole", texts), ("start", texts[:8])):
            with gzip.open(Path(folder, f"{name}.jsonl.gz"), "wt", compresslevel=6) as out:
                out.writelines(json.dumps({"id": str(i), "text": text}) + "\n" for i, text in enumerate(rows))
        for contender in (name for name, (package, _) in CONTENDERS.items() if _is_installed(package)):
            arguments = [contender, folder, str(num_workers), segmenter]
            try:
                startup = _measure([*arguments, "start"])
                whole = _measure([*arguments, "whole"])
            except ContenderError as error:
                print(printable(str(error)), file=sys.stderr)
                continue
            rate = size / 1e6 / whole[0]
            results.append(ContenderCost(contender, whole[0], startup[0], whole[1], whole[2], rate))
    if as_json:
        contenders = [dataclasses.asdict(cost) for cost in results]
        report = {"file": file, "bytes": size, "workers": num_workers, "contenders": contenders}
        print(json.dumps(report, indent=1))
    else:
        _show(file, size, results)
    return results


def _texts(file: str) -> Iterator[str]:
    data = load_config(None, [f"data.inputs=[{file}]"]).data
    units = plan_work_units(survey_all(find_sources(data), data, 2**25), data, 2**25)
    reader = WorkUnitReader(data)
    for unit in units:
        yield from (document.text for document in reader.read(unit) if isinstance(document, Document))


def _is_installed(package: str) -> bool:
    return importlib.util.find_spec(package) is not None


def _measure(arguments: list[str]) -> tuple[float, float, float]:
    """CPU seconds, wall seconds and peak megabytes of a contender's process tree."""
    start = time.monotonic()
    with tempfile.TemporaryFile() as log:
        process = subprocess.Popen(  # noqa: S603 - our own module
            [sys.executable, "-m", "jobs.bench.prepare_contenders", *arguments], stdout=log, stderr=log
        )
        sampler = _TreeSampler(process.pid)
        code = process.wait()
        wall = time.monotonic() - start
        sampler.stop()
        if code:
            log.seek(0)
            said = log.read().decode(errors="replace").strip().rsplit("\n", 1)[-1]
            raise ContenderError(f"{arguments[0]}: failed, left out: {said}")
    return sampler.cpu_seconds, wall, sampler.peak_bytes / 1e6


class _TreeSampler(threading.Thread):
    """Samples CPU time and memory of a process and its descendants until stopped."""

    def __init__(self, pid: int) -> None:
        super().__init__(daemon=True)
        self._root = psutil.Process(pid)
        self._cpu: dict[int, float] = {}
        self._done = threading.Event()
        self.peak_bytes = 0
        self.start()

    @property
    def cpu_seconds(self) -> float:
        """Sum over all sampled processes."""
        return sum(self._cpu.values())

    def run(self) -> None:
        """Sample until `stop`."""
        while not self._done.wait(SAMPLE_SECONDS):
            total = 0
            try:
                tree = [self._root, *self._root.children(recursive=True)]
            except psutil.Error:
                continue
            for process in tree:
                try:
                    times = process.cpu_times()
                    self._cpu[process.pid] = times.user + times.system
                    total += process.memory_info().rss
                except psutil.Error:
                    continue
            self.peak_bytes = max(self.peak_bytes, total)

    def stop(self) -> None:
        """End the thread."""
        self._done.set()
        self.join()


def _show(file: str, size: int, results: list[ContenderCost]) -> None:
    table = Table(title=f"{file}: {size / 1e6:.1f} MB of text", title_justify="left")
    table.add_column("contender")
    for column in ("MB/CPU-s", "CPU s", "of it start-up", "wall s", "peak MB"):
        table.add_column(column, justify="right")
    for row in results:
        figures = (row.cpu_seconds, row.startup_cpu_seconds, row.wall_seconds)
        rate = f"{row.megabytes_per_cpu_second:.2f}"
        table.add_row(row.contender, rate, *(f"{x:.1f}" for x in figures), f"{row.peak_megabytes:.0f}")
    PrintableConsole().print(table)
