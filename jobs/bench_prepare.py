"""`sllm bench prepare`: text to tokens on disk, ours and others', in one run on the same file.

Each contender is a process of its own, measured from outside: CPU seconds and memory of its whole process tree,
wall time, start-up included. What it costs on the first few documents alone is shown as its start-up.
"""

import dataclasses
import gzip
import importlib.util
import itertools
import json
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
from rich.console import Console
from rich.table import Table

from pipeline.config import load_config
from pipeline.corpus import Document, SplitReader, find_sources, plan_splits, survey_all
from pipeline.errors import ConfigError
from pipeline.tokens import Tokenizer

SAMPLE_SECONDS = 0.05
BATCH = 256
"""Documents that peers are given at a time."""


class ContenderError(Exception):
    """A contender ended with an error."""


@dataclass(frozen=True)
class Measured:
    """What one contender took."""

    contender: str
    cpu_seconds: float
    startup_cpu_seconds: float
    wall_seconds: float
    peak_megabytes: float
    """Of all its processes at one time, shared pages counted once each process."""
    megabytes_per_cpu_second: float
    """Of UTF-8 text, start-up included."""


def bench_prepare(
    file: str, tokenizer: str, num_workers: int, segmenter: str = "punctuation_v1", as_json: bool = False
) -> list[Measured]:
    """Measure all contenders that are installed on `file` (anything `data.inputs` takes), and show them.

    `tokenizer` is a folder or hub name. A contender that fails is named, and the others are measured.
    Raises `ConfigError` where there is nothing to measure on.
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
                print(error, file=sys.stderr)
                continue
            rate = size / 1e6 / whole[0]
            results.append(Measured(contender, whole[0], startup[0], whole[1], whole[2], rate))
    if as_json:
        contenders = [dataclasses.asdict(measured) for measured in results]
        report = {"file": file, "bytes": size, "workers": num_workers, "contenders": contenders}
        print(json.dumps(report, indent=1))
    else:
        _show(file, size, results)
    return results


def _texts(file: str) -> Iterator[str]:
    data = load_config(None, [f"data.inputs=[{file}]"]).data
    splits = plan_splits(survey_all(find_sources(data), data, 2**25), data, 2**25)
    reader = SplitReader(data)
    for split in splits:
        yield from (document.text for document in reader.read(split) if isinstance(document, Document))


def _is_installed(package: str) -> bool:
    return importlib.util.find_spec(package) is not None


def _measure(arguments: list[str]) -> tuple[float, float, float]:
    """CPU seconds, wall seconds and peak megabytes of a contender's process tree."""
    start = time.monotonic()
    with tempfile.TemporaryFile() as log:
        process = subprocess.Popen(  # noqa: S603 - our own module
            [sys.executable, "-m", "jobs.bench_prepare", *arguments], stdout=log, stderr=log
        )
        watcher = _TreeWatcher(process.pid)
        code = process.wait()
        wall = time.monotonic() - start
        watcher.stop()
        if code:
            log.seek(0)
            said = log.read().decode(errors="replace").strip().rsplit("\n", 1)[-1]
            raise ContenderError(f"{arguments[0]}: failed, left out: {said}")
    return watcher.cpu_seconds, wall, watcher.peak_bytes / 1e6


class _TreeWatcher(threading.Thread):
    """Looks at a process and all below it, again and again, until stopped."""

    def __init__(self, pid: int) -> None:
        super().__init__(daemon=True)
        self._root = psutil.Process(pid)
        self._cpu: dict[int, float] = {}
        self._done = threading.Event()
        self.peak_bytes = 0
        self.start()

    @property
    def cpu_seconds(self) -> float:
        """Of all processes seen."""
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


def _show(file: str, size: int, results: list[Measured]) -> None:
    table = Table(title=f"{file}: {size / 1e6:.1f} MB of text", title_justify="left")
    table.add_column("contender")
    for column in ("MB/CPU-s", "CPU s", "of it start-up", "wall s", "peak MB"):
        table.add_column(column, justify="right")
    for row in results:
        figures = (row.cpu_seconds, row.startup_cpu_seconds, row.wall_seconds)
        rate = f"{row.megabytes_per_cpu_second:.2f}"
        table.add_row(row.contender, rate, *(f"{x:.1f}" for x in figures), f"{row.peak_megabytes:.0f}")
    Console().print(table)


@dataclass(frozen=True)
class Task:
    """What a contender is given."""

    file: str
    tokenizer: str
    output: str
    num_workers: int
    segmenter: str

    def rows(self) -> Iterator[str]:
        """The texts."""
        with gzip.open(self.file, "rt") as lines:
            for line in lines:
                yield json.loads(line)["text"]


def _ours(task: Task, launcher: str) -> None:
    from jobs.prepare import prepare

    overrides = [
        f"data.inputs=[{task.file}]",
        f"segmenter.name={task.segmenter}",
        f"tokenizer.path={task.tokenizer}",
        f"prepare.num_workers={task.num_workers}",
        f"launcher={launcher}",
    ]
    prepare(load_config(None, overrides), task.output)


def _sllm_job(task: Task) -> None:
    from jobs.cli import main

    preset = Path(__file__).parent / "presets" / "prepare.yaml"
    sys.argv = [
        *("sllm", "prepare", str(preset), f"data.inputs=[{task.file}]", f"output={task.output}"),
        *(f"segmenter.name={task.segmenter}", f"tokenizer.path={task.tokenizer}"),
        *(f"prepare.num_workers={task.num_workers}", f"tracking.uri=sqlite:///{task.output}.db"),
    ]
    main()


def _engine_alone(task: Task) -> None:
    tokenizer = Tokenizer.load(task.tokenizer)
    for batch in _batched(task.rows()):
        tokenizer.encode(batch)


def _tokenizers_alone(task: Task) -> None:
    import tokenizers

    tokenizer = tokenizers.Tokenizer.from_file(f"{task.tokenizer}/tokenizer.json")
    for batch in _batched(task.rows()):
        for encoding in tokenizer.encode_batch_fast(batch, add_special_tokens=False):
            _ = encoding.ids


def _tiktoken_alone(task: Task) -> None:
    import tiktoken
    from tokenizers import decoders

    vocab = json.loads(Path(task.tokenizer, "tokenizer.json").read_bytes())["model"]["vocab"]
    characters = {chr(_character_of_byte(byte)): byte for byte in range(256)}
    assert decoders.ByteLevel().decode([chr(_character_of_byte(0x41))]) == "A"
    ranks = {
        bytes(characters[c] for c in token): rank
        for token, rank in vocab.items()
        if all(c in characters for c in token)
    }
    pattern = r"'(?:[sdmt]|ll|ve|re)| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"
    encoding = tiktoken.Encoding("bench", pat_str=pattern, mergeable_ranks=ranks, special_tokens={})
    for text in task.rows():
        encoding.encode_ordinary(text)


def _character_of_byte(byte: int) -> int:
    """GPT-2's printable character of a byte."""
    printable = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    others = [other for other in range(256) if other not in printable]
    return byte if byte in printable else 256 + others.index(byte)


def _datasets(task: Task) -> None:
    import datasets
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(task.tokenizer)
    loaded = datasets.load_dataset(
        "json", data_files=task.file, split="train", cache_dir=f"{task.output}.cache"
    )
    loaded.map(
        lambda batch: {"input_ids": tokenizer(batch["text"], add_special_tokens=False)["input_ids"]},
        batched=True,
        batch_size=BATCH,
        remove_columns=loaded.column_names,
        num_proc=task.num_workers if len(loaded) > BATCH else None,
    ).save_to_disk(task.output)


class _RayDataTokenizer:
    def __init__(self, folder: str) -> None:
        from transformers import AutoTokenizer

        self._tokenizer = AutoTokenizer.from_pretrained(folder)

    def __call__(self, batch: dict[str, Any]) -> dict[str, Any]:
        ids = self._tokenizer(list(batch["text"]), add_special_tokens=False)["input_ids"]
        return {"input_ids": ids}


def _ray_data(task: Task) -> None:
    import ray

    ray.init(num_cpus=task.num_workers + 1, include_dashboard=False)
    ray.data.read_json(task.file).repartition(task.num_workers * 4).map_batches(
        _RayDataTokenizer,
        fn_constructor_args=(task.tokenizer,),
        batch_size=BATCH,
        compute=ray.data.ActorPoolStrategy(size=task.num_workers),
    ).write_parquet(task.output)


def _datatrove(task: Task) -> None:
    from datatrove.executor import LocalPipelineExecutor
    from datatrove.pipeline.readers import JsonlReader
    from datatrove.pipeline.tokens import DocumentTokenizer

    source = Path(task.file)
    LocalPipelineExecutor(
        pipeline=[
            JsonlReader(str(source.parent), glob_pattern=source.name),
            DocumentTokenizer(
                task.output, tokenizer_name_or_path=f"{task.tokenizer}/tokenizer.json", eos_token=None
            ),
        ],
        logging_dir=f"{task.output}.log",
    ).run()


def _batched(rows: Iterator[str]) -> Iterator[list[str]]:
    while batch := list(itertools.islice(rows, BATCH)):
        yield batch


CONTENDERS: dict[str, tuple[str, Callable[[Task], None]]] = {
    "sllm prepare (the recorded job)": ("mlflow", _sllm_job),
    "sllm shards, launcher=ray": ("ray", lambda task: _ours(task, "ray")),
    "sllm shards, launcher=local": ("tokenizers", lambda task: _ours(task, "local")),
    "our engine alone": ("tokenizers", _engine_alone),
    "tokenizers alone": ("tokenizers", _tokenizers_alone),
    "tiktoken alone": ("tiktoken", _tiktoken_alone),
    "datasets.map": ("datasets", _datasets),
    "Ray Data map_batches": ("ray.data", _ray_data),
    "datatrove (no sentences)": ("datatrove", _datatrove),
}
"""Name -> the package it needs, and what it does."""


def _contend(contender: str, folder: str, num_workers: str, segmenter: str, which: str) -> None:
    with tempfile.TemporaryDirectory() as output:
        CONTENDERS[contender][1](
            Task(
                f"{folder}/{which}.jsonl.gz",
                f"{folder}/tokenizer",
                f"{output}/out",
                int(num_workers),
                segmenter,
            )
        )


if __name__ == "__main__":
    _contend(*sys.argv[1:])
