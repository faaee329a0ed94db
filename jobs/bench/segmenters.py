"""`sllm bench segmenters`: F1 and speed of segmenters of sllm and other packages, in one run."""

import json
import sys
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path

import segmenters
from jobs.bench.segmenter_peers import PEERS, Peer
from jobs.bench.segmenter_sets import gold_sets, sources
from jobs.bench.segmenter_stress import UNSPACED, WIDTH, single_sentences, wrapped
from jobs.bench.segmenter_table import Cell, Table, add_summary, is_set
from pipeline.corpus.document_lines import read_documents
from pipeline.printable import printable
from segmenters import Segmenter, SegmenterError
from segmenters.contract import Ends
from segmenters.learned.training.examples import Example, read_gold
from segmenters.scoring import score_ends

OURS = (
    "learned_v2",
    "learned_v1",
    "punctuation_v1",
    "punctuation_v2",
    "reference_v1",
    "spacy_v1",
    "fixed_v1",
    "wtpsplit_v1",
)
SPEED = ("text/en-docs.dev", "text/en-books.dev", "text/zh-docs.dev")
_REPEATS = 4
_MAX_SECONDS = 30.0
"""CPU time of a segmenter for one set of texts."""
_OF_PACKAGES = ("spacy_v1", "wtpsplit_v1")
"""Those of `OURS` that are packages."""


def run(
    data: str | Path,
    names: Sequence[str] = OURS,
    peers: Sequence[str] = tuple(PEERS),
    own_gold: Sequence[str] = (),
    max_megabytes: float = 1.0,
    report: Callable[[str], None] = lambda line: print(printable(line), file=sys.stderr, flush=True),
) -> Table:
    """By segmenter: F1 on every set and megabytes of UTF-8 per second of CPU time, in one process.

    `data` is a folder with `segmentation/*.jsonl.gz` (gold) and `text/*.jsonl.gz` (for speed: `max_megabytes` of
    each file); `own_gold` are more labelled files. Python files of the standard library and generated tables
    are labelled by construction. Packages are told the language, the first letters of a set's name; Punkt is trained on
    `text/LANGUAGE-docs.train.jsonl.gz`. Then the share of single sentences that are split, and the F1 that is lost if
    the texts are hard-wrapped. For other code, the figure is the share of boundaries at line ends. The last column is
    the best package on each set. A segmenter that cannot be used gets the reason under `error`. Set OMP_NUM_THREADS=1
    to measure one core. `report` gets what is measured next, and each row when it is complete.
    """
    sets = gold_sets(Path(data)) | {
        Path(path).name.split(".jsonl")[0]: list(read_gold(Path(path))) for path in own_gold
    }
    codes = sources(Path(data))
    texts = {name: _megabytes(Path(data) / f"{name}.jsonl.gz", max_megabytes) for name in SPEED}
    table: Table = {}
    for name in [*names, *peers]:
        row: dict[str, Cell] = {}
        try:
            for label, examples in sets.items():
                report(f"{name}: {label}")
                try:
                    segmenter = _segmenter(name, label, Path(data))
                    found = _split_in_time(segmenter, [example.text for example in examples])
                except SegmenterError as error:
                    if name not in PEERS:
                        raise
                    row[label] = str(error)  # perhaps of this language alone
                    continue
                row[label] = None if found is None else score_ends(found, examples).f1
            report(f"{name}: single sentences, wrapped text")
            row |= _stress(name, Path(data), sets, row)
            segmenter = _segmenter(name, "en", Path(data))
            for label, code in codes.items():
                report(f"{name}: {label}")
                found = _split_in_time(segmenter, code)
                row[f"{label} at line ends"] = None if found is None else share_at_line_ends(found, code)
            for label, sample in texts.items():
                report(f"{name}: speed on {label}")
                row[f"MB/s {label.removeprefix('text/').removesuffix('.dev')}"] = _speed(segmenter, sample)
        except SegmenterError as error:
            if not any(isinstance(cell, float) for cell in row.values()):
                row["error"] = str(error)
        table[name] = row
        report(f"{name}: {json.dumps(row)}")  # so that a run that is cut short has told something
    add_summary(table, {*peers, *_OF_PACKAGES})
    return table


def _segmenter(name: str, label: str, data: Path) -> Segmenter:
    """The segmenter for a set; a package is told the language with which the set's name begins."""
    if name not in PEERS:
        return segmenters.load(name)
    language = label.partition("-")[0] if "-" in label else "en"
    raw = data / "text" / f"{language}-docs.train.jsonl.gz"
    return Peer(name, language, str(raw) if raw.is_file() else None)


def _stress(
    name: str, data: Path, sets: Mapping[str, list[Example]], row: Mapping[str, Cell]
) -> dict[str, Cell]:
    """Share of single sentences that are split, and the loss of F1 in hard-wrapped text: means over the sets."""
    shares: dict[str, list[float]] = {}
    for label, examples in sets.items():
        f1 = row.get(label)
        if not is_set(label) or not isinstance(f1, float):
            continue
        segmenter = _segmenter(name, label, data)
        for with_mark in (False, True):
            singles = single_sentences(examples, with_mark)
            found = _split_in_time(segmenter, singles)
            key = f"single sentences split, {'with' if with_mark else 'no'} final mark"
            if found:
                shares.setdefault(key, []).append(sum(len(ends) > 1 for ends in found) / len(found))
        if label.partition("-")[0] in UNSPACED:
            continue
        for newline, kind in (("\n", "LF"), ("\r\n", "CRLF")):
            lines = wrapped(examples, newline)
            found = _split_in_time(segmenter, [one.text for one in lines])
            if found is not None:
                loss = f1 - score_ends(found, lines).f1
                shares.setdefault(f"F1 lost, wrapped at {WIDTH}, {kind}", []).append(loss)
    return {key: sum(values) / len(values) for key, values in shares.items()}


def _split_in_time(segmenter: Segmenter, texts: list[str]) -> list[Ends] | None:
    """The ends; None if it takes over `_MAX_SECONDS`, so that all figures are of the same texts."""
    found: list[Ends] = []
    begun = time.process_time()
    for low in range(0, len(texts), 16):
        found += segmenter.split(texts[low : low + 16])
        if time.process_time() - begun > _MAX_SECONDS:
            return None
    return found


def share_at_line_ends(found: Iterable[Ends], texts: Sequence[str]) -> float:
    """Share of the boundaries, without the ends of texts, whose white space contains a line break."""
    at_line_end = boundaries = 0
    for ends, text in zip(found, texts, strict=True):
        for end in ends[:-1].tolist():
            first, last = end, end
            while first and text[first - 1].isspace():
                first -= 1
            while text[last : last + 1].isspace():
                last += 1
            gap = text[first:last]
            at_line_end += "\n" in gap or "\r" in gap
            boundaries += 1
    return at_line_end / max(boundaries, 1)


def _megabytes(path: Path, megabytes: float) -> list[str]:
    texts, size = list[str](), 0
    for _, text in read_documents(path):
        texts.append(text)
        size += len(text.encode())
        if size >= megabytes * 1e6:
            break
    return texts


def _speed(segmenter: Segmenter, texts: list[str]) -> float:
    """MB/s: the best of a few repeats, so that other work on the machine counts less.

    The first pass, in small calls, finds out how many texts a slow segmenter can do; in the others each call gets all
    of them, about as much text as `sllm prepare` gives to one.
    """
    best, begun, count = 0.0, time.process_time(), len(texts)
    for repeat in range(_REPEATS):
        size, started = 0, time.process_time()
        step = 16 if repeat == 0 else count
        for low in range(0, count, step):
            part = texts[low : min(low + step, count)]
            segmenter.split(part)
            size += sum(len(text.encode()) for text in part)
            if time.process_time() - begun > _MAX_SECONDS:
                count = low + len(part)
                break
        best = max(best, size / 1e6 / max(time.process_time() - started, 1e-9))
        if time.process_time() - begun > _MAX_SECONDS:
            break
    return best
