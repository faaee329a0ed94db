"""`sllm bench segmenters`: accuracy and speed of segmenters, ours and others, in the same run."""

import csv
import io
import random
import sys
import sysconfig
import time
import tokenize
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import segmenters
from jobs.bench_peers import PEERS, Peer
from pipeline.errors import ConfigError
from segmenters import Segmenter, SegmenterError
from segmenters.scoring import score
from segmenters.training_text import Example, read_gold, stripped

OURS = ("learned_v1", "punctuation_v1", "reference_v1", "spacy_v1", "fixed_v1")
GOLD = ("segmentation/en-ewt.dev", "segmentation/en-gum.dev", "segmentation/zh-gsdsimp.dev")
SPEED = ("text/en-docs.dev", "text/en-books.dev", "text/zh-docs.dev")
_NUM_PYTHON_FILES = 100
_NUM_TABLES = 40
_REPEATS = 3


def run(
    data: str | Path,
    names: Sequence[str] = OURS,
    peers: Sequence[str] = tuple(PEERS),
    max_megabytes: float = 1.0,
    report: Callable[[str], None] = lambda line: print(line, file=sys.stderr, flush=True),
) -> dict[str, dict[str, float | str]]:
    """By segmenter: F1 on every set and megabytes of UTF-8 a second of processor time, in this one process.

    `data` is a folder with `segmentation/*.jsonl.gz` (gold) and `text/*.jsonl.gz` (for speed: `max_megabytes` of
    each file). Python files are those of this Python's standard library, tables are generated: both with
    boundaries known by construction. A segmenter that cannot be used gets its reason under `error`.
    Set OMP_NUM_THREADS=1 to measure one core.
    """
    sets = gold_sets(Path(data))
    texts = {name: _megabytes(Path(data) / f"{name}.jsonl.gz", max_megabytes) for name in SPEED}
    table: dict[str, dict[str, float | str]] = {}
    for name in [*names, *peers]:
        report(f"{name} ...")
        row: dict[str, float | str] = {}
        try:
            segmenter = Peer(name) if name in PEERS else segmenters.load(name)
            for label, examples in sets.items():
                row[label] = score(segmenter, examples).f1
            for label, sample in texts.items():
                row[f"MB/s {label.removeprefix('text/').removesuffix('.dev')}"] = _speed(segmenter, sample)
        except SegmenterError as error:
            row["error"] = str(error)
        table[name] = row
    return table


def gold_sets(data: Path) -> dict[str, list[Example]]:
    """Texts with known boundaries, by the name of the set."""
    sets: dict[str, list[Example]] = {}
    rng = random.Random(0)
    for name in GOLD:
        path = data / f"{name}.jsonl.gz"
        if not path.is_file():
            raise ConfigError(f"{path} is not there: give the folder that holds segmentation/ and text/")
        label = name.removeprefix("segmentation/")
        sets[label] = list(read_gold(path))
        if label.startswith("en-"):
            sets[f"{label} stripped"] = [stripped(example, rng) for example in sets[label]]
    sets["python"] = python_examples(rng)
    sets["csv"] = [table_example(random.Random(seed)) for seed in range(_NUM_TABLES)]
    return sets


def python_examples(rng: random.Random) -> list[Example]:
    """Files of the standard library; a sentence is a logical line, or a comment that stands alone."""
    paths = sorted(Path(sysconfig.get_paths()["stdlib"]).rglob("*.py"))
    paths = [path for path in paths if not {"site-packages", "test", "tests"} & set(path.parts)]
    examples = []
    for path in rng.sample(paths, min(_NUM_PYTHON_FILES, len(paths))):
        try:
            examples.append(python_example(path.read_bytes().decode("utf-8")))
        except (UnicodeDecodeError, tokenize.TokenError, SyntaxError):
            continue
    return [example for example in examples if example.ends]


def python_example(text: str) -> Example:
    """The ends of the logical lines of Python source, told by Python's own tokenizer."""
    lines = io.StringIO(text, newline="").readlines()
    starts = [0]
    for line in lines:
        starts.append(starts[-1] + len(line))
    ends = set()
    for token in tokenize.generate_tokens(iter([*lines, ""]).__next__):
        if token.type == tokenize.NEWLINE:
            ends.add(starts[token.end[0] - 1] + token.start[1])
        elif token.type == tokenize.COMMENT and not token.line[: token.start[1]].strip():
            ends.add(starts[token.end[0] - 1] + token.end[1])
    return Example(text, tuple(sorted(end for end in ends if 0 < end <= len(text))))


_WORDS = (
    "the",
    "old",
    "house",
    "by",
    "a",
    "river",
    "was",
    "sold",
    "again",
    "May",
    "people",
    "away,",
    "never",
)


def table_example(rng: random.Random) -> Example:
    """A CSV file as Python's writer makes it, with line breaks and commas inside quoted fields."""
    buffer = io.StringIO(newline="")
    writer = csv.writer(
        buffer,
        quoting=rng.choice((csv.QUOTE_MINIMAL, csv.QUOTE_ALL)),
        lineterminator=rng.choice(("\n", "\r\n")),
    )
    columns = rng.randrange(2, 7)
    ends = []
    for number in range(rng.randrange(4, 60)):
        writer.writerow(_cell(rng, column, number) for column in range(columns))
        ends.append(len(buffer.getvalue()))
    return Example(buffer.getvalue(), tuple(ends))


def _cell(rng: random.Random, column: int, number: int) -> str:
    if number == 0:
        return f"column {column}"
    lines = (
        " ".join(rng.choices(_WORDS, k=rng.randrange(2, 9))).capitalize() + "."
        for _ in range(rng.randrange(1, 4))
    )
    return (str(number), "\n".join(lines), f"{rng.random():.3f}", 'so "called"')[column % 4]


def _megabytes(path: Path, megabytes: float) -> list[str]:
    from jobs.segment import read_documents

    texts, size = list[str](), 0
    for _, text in read_documents(path):
        texts.append(text)
        size += len(text.encode())
        if size >= megabytes * 1e6:
            break
    return texts


def _speed(segmenter: Segmenter, texts: list[str]) -> float:
    """The best of a few repeats, so that what else the machine does counts less; the first warms up."""
    size = sum(len(text.encode()) for text in texts) / 1e6
    times = []
    for _ in range(_REPEATS):
        begun = time.process_time()
        segmenter.split(texts)
        times.append(time.process_time() - begun)
        if times[-1] > 10:  # seconds: slow enough to be sure of
            break
    return size / min(times)


def markdown(table: dict[str, dict[str, float | str]]) -> str:
    """The table in Markdown, a row a segmenter."""
    columns = list(dict.fromkeys(key for row in table.values() for key in row if key != "error"))
    lines = ["| | " + " | ".join(columns) + " |", "|---" * (len(columns) + 1) + "|"]
    for name, row in table.items():
        cells: Iterable[Any] = (row.get(column) for column in columns)
        shown = [
            f"{cell:.3g}" if column.startswith("MB/s") else f"{cell:.3f}"
            for column, cell in zip(columns, cells, strict=True)
            if isinstance(cell, float)
        ]
        lines.append(f"| {name} | " + (" | ".join(shown) if "error" not in row else f"{row['error']}") + " |")
    return "\n".join(lines)
