"""Labelled texts for `sllm bench segmenters`: gold files, and texts labelled by construction."""

import csv
import io
import random
import re
import sysconfig
import tokenize
from collections.abc import Iterator
from pathlib import Path

from pipeline.corpus.document_lines import read_documents
from pipeline.errors import ConfigError
from segmenters.learned.training.augmentation import stripped
from segmenters.learned.training.examples import Example, read_gold

GOLD = ("segmentation/en-ewt.dev", "segmentation/en-gum.dev", "segmentation/zh-gsdsimp.dev")
TECHNICAL = ("text/en-docs.dev", "text/en-docs.train")
_NUM_PYTHON_FILES = 60
_NUM_TABLES = 40
_NUM_SOURCES = 200
_MIN_SOURCE_LINES = 6
_MAX_SOURCE_CHARACTERS = 200_000


def gold_sets(data: Path) -> dict[str, list[Example]]:
    """Labelled texts, by the name of the set: every dev set of `segmentation/`, and those labelled by construction.

    Raises `ConfigError` where the folder lacks those that are always measured.
    """
    sets: dict[str, list[Example]] = {}
    rng = random.Random(0)
    for name in GOLD:
        if not (data / f"{name}.jsonl.gz").is_file():
            raise ConfigError(
                f"{data / name}.jsonl.gz is not there: give the folder that holds segmentation/ and text/"
            )
    for path in sorted((data / "segmentation").glob("*.dev.jsonl.gz")):
        label = path.name.removesuffix(".jsonl.gz")
        sets[label] = list(read_gold(path))
        if label.startswith(("en-", "zh-")):
            sets[f"{label} stripped"] = [stripped(example, rng) for example in sets[label]]
    sets["python"] = python_examples(rng)
    sets["csv"] = [table_example(random.Random(seed)) for seed in range(_NUM_TABLES)]
    return sets


def python_examples(rng: random.Random) -> list[Example]:
    """Files of the standard library; a sentence is a logical line, or a comment without code in its line."""
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
    """Python source labelled with the ends of its logical lines by Python's own tokenizer."""
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
    """A CSV file by Python's writer, with line breaks and commas inside quoted fields."""
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


_FENCED = re.compile(r"^```(cpp|c|rust)\b[^\n`]*\n(.*?)^```", re.M | re.S)
_LANGUAGES = {"cpp": "C++", "c": "C", "rust": "Rust"}


def sources(data: Path) -> dict[str, list[str]]:
    """Code by language: examples in technical documents, and files of the installed packages."""
    found: dict[str, list[str]] = {name: [] for name in ("C++", "C", "Rust", "JavaScript", "YAML")}
    for name in TECHNICAL:
        path = data / f"{name}.jsonl.gz"
        for _, text in read_documents(path) if path.is_file() else ():
            for block in _FENCED.finditer(text):
                if block[2].count("\n") >= _MIN_SOURCE_LINES:
                    found[_LANGUAGES[block[1]]].append(block[2])
    packages = Path(sysconfig.get_paths()["purelib"])
    found["JavaScript"] = list(_files(packages, "*.js"))
    found["YAML"] = [*_files(packages, "*.yaml"), *_files(packages, "*.yml")]
    return {name: texts[:_NUM_SOURCES] for name, texts in found.items() if texts}


def _files(folder: Path, pattern: str) -> Iterator[str]:
    """Texts of files with lines of ordinary length: not minified."""
    for path in sorted(folder.rglob(pattern)):
        try:
            text = path.read_bytes().decode("utf-8")
        except (OSError, UnicodeDecodeError):
            continue
        lines = text.count("\n")
        if lines >= _MIN_SOURCE_LINES and len(text) < min(_MAX_SOURCE_CHARACTERS, 100 * lines):
            yield text
