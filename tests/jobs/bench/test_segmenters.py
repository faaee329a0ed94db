import gzip
import json
import random
import sys
from pathlib import Path

import numpy as np
import pytest

from jobs.bench.segmenter_peers import Peer, _ends_of
from jobs.bench.segmenter_sets import GOLD, python_example, table_example
from jobs.bench.segmenter_stress import single_sentences, wrapped
from jobs.bench.segmenter_table import BEST, add_summary, markdown
from jobs.bench.segmenters import OURS, SPEED, _segmenter, _split_in_time, run, share_at_line_ends
from pipeline.errors import ConfigError
from segmenters import SegmenterError, load
from segmenters.learned.training.examples import Example
from segmenters.registry import BUILT_IN
from segmenters.scoring import score


def test_the_table_has_every_set_and_says_what_is_missing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    document = json.dumps({"id": 1, "text": "One here. Two there.", "ends": [9, 20]})
    for name in (*GOLD, *SPEED):
        path = tmp_path / f"{name}.jsonl.gz"
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(gzip.compress(document.encode()))
    monkeypatch.setattr("jobs.bench.segmenter_sets._NUM_PYTHON_FILES", 2)
    monkeypatch.setattr("jobs.bench.segmenter_sets._NUM_TABLES", 2)
    monkeypatch.setitem(sys.modules, "pysbd", None)
    table = run(tmp_path, ["punctuation_v1"], ["pysbd"], report=lambda line: None)
    row = table["punctuation_v1"]
    assert row["en-ewt.dev"] == 1.0 and row["en-ewt.dev stripped"] == 0.0
    assert isinstance(row["MB/s en-books"], float) and row["MB/s en-books"] > 0
    assert "pip install 'sllm[bench]'" in str(table["pysbd"]["error"])
    assert (
        row["single sentences split, no final mark"] == row["single sentences split, with final mark"] == 0.0
    )
    assert row["F1 lost, wrapped at 72, LF"] == row["F1 lost, wrapped at 72, CRLF"] == 0.0
    shown = markdown(table)
    assert "| en-ewt.dev | 1.0000 |" in shown and "\npysbd: pysbd cannot be used" in shown


def test_a_segmenter_that_is_too_slow_gets_no_figure(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("jobs.bench.segmenters._MAX_SECONDS", 0.0)
    assert _split_in_time(load("punctuation_v1"), ["One. Two."]) is None


def test_boundaries_at_line_ends_are_counted() -> None:
    text = "a; b;\n  c;\r\nd"
    assert share_at_line_ends([np.array([3, 8, 14])], [text]) == 0.5
    assert share_at_line_ends([np.array([5, 10, 14])], [text]) == 1.0


def test_without_the_data_it_says_what_it_needs(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="holds segmentation/ and text/"):
        run(tmp_path)


def test_known_boundaries_of_python_and_tables() -> None:
    text = "# One\nx = [1,  # two\n     2]\n\ny = '''a\nb'''\n"
    ends = python_example(text).ends
    assert [text[a:b].strip() for a, b in zip((0, *ends), ends, strict=False)] == [
        "# One",
        "x = [1,  # two\n     2]",
        "y = '''a\nb'''",
    ]
    tables = [table_example(random.Random(seed)) for seed in range(8)]
    assert any("\n" in table.text[: table.ends[1]].rstrip("\r\n").split("\n", 1)[1] for table in tables)
    assert score(load("learned_v1"), tables).f1 == 1.0


def test_wrapped_text_keeps_its_labels() -> None:
    text = "One two three. " * 12 + "\nLast line here."
    ends = [*range(14, 180, 15), len(text)]
    (lines,) = wrapped([Example(text, tuple(ends))], "\r\n")
    assert max(map(len, lines.text.split("\r\n"))) <= 72 < len(text)
    solid = ["".join(lines.text[:end].split()) for end in lines.ends]
    assert solid == ["".join(text[:end].split()) for end in ends]
    assert single_sentences([Example("Is it? Yes. no", (6, 11, 14))], with_mark=True) == ["Is it?", "Yes."]
    assert single_sentences([Example("Is it? Yes. no", (6, 11, 14))], with_mark=False) == [
        "Is it",
        "Yes",
        "no",
    ]


def test_packages_get_the_language_and_raw_text_of_a_set(tmp_path: Path) -> None:
    raw = tmp_path / "text" / "de-docs.train.jsonl.gz"
    raw.parent.mkdir()
    raw.touch()
    assert _segmenter("punkt", "de-gsd.dev", tmp_path) == Peer("punkt", "de", str(raw))
    assert _segmenter("punkt", "fr-gsd.dev", tmp_path) == Peer("punkt", "fr", None)


def test_sentences_of_other_packages_are_found_again() -> None:
    assert _ends_of("a b.  c d. ", ["a b.", "nowhere", " c d."]).tolist() == [4, 10, 11]
    assert _ends_of("", []).tolist() == []
    with pytest.raises((SegmenterError, KeyError)):
        Peer("none").split(["a"])


def test_segmenters_are_compared_with_the_best_package_and_the_rule_on_each_set() -> None:
    table: dict[str, dict[str, float | str | None]] = {
        "learned_v2": {"de.dev": 0.9, "en.dev": 0.8, "en.dev stripped": 0.5, "python": 1.0, "fr.dev": None},
        "punctuation_v1": {"de.dev": 0.91, "en.dev": 0.7},
        "spacy_v1": {"de.dev": 0.5, "en.dev": 0.8, "en.dev stripped": 0.1, "fr.dev": 0.2, "MB/s": 3.0},
        "punkt": {"de.dev": "no such language", "en.dev": 0.6},
        "pysbd": {"error": "not there"},
    }
    add_summary(table, ("spacy_v1", "punkt", "pysbd"))
    assert table[BEST] == {"de.dev": 0.5, "en.dev": 0.8, "en.dev stripped": 0.1, "fr.dev": 0.2}
    ours = table["learned_v2"]
    assert ours["mean of 2 sets"] == pytest.approx(0.85)
    assert ours["sets where punctuation_v1 and all packages are at most equal"] == "1"
    assert ours["sets where one is more than 0.003 better"] == "1"
    assert not [label for label in table["punkt"] if label.startswith(("mean", "sets"))]
    shown = markdown(table)
    assert "| de.dev | 0.9000 | 0.9100 | 0.5000 | - | 0.5000 |" in shown
    assert "| sets where one is more than 0.003 better | 1 | 1 | - | - | - |" in shown
    assert "| fr.dev | over 30 s | - | 0.2000 | - | 0.2000 |" in shown


def test_every_registered_segmenter_is_measured() -> None:
    assert set(OURS) == set(BUILT_IN)
