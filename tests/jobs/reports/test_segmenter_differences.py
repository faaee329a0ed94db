import json
from pathlib import Path

import pytest
from rich.console import Console

from jobs.reports.segmenter_differences import compare, show
from pipeline.errors import CorpusError
from segmenters import SegmenterError

NAMES = ("punctuation_v1", "reference_v1")


def test_pieces_name_the_segmenter_that_ends_a_sentence(tmp_path: Path) -> None:
    source = tmp_path / "in.txt"
    source.write_text("So, yes. No.", encoding="utf-8")
    comparison = compare(NAMES, source)
    assert comparison.pieces(0) == [("So, ", [False, True]), ("yes. ", [True, True]), ("No.", [True, True])]
    assert comparison.lengths("punctuation_v1").tolist() == [9, 3]


def test_the_terminal_shows_the_text_and_nothing_of_it_as_markup(tmp_path: Path) -> None:
    source = tmp_path / "in.jsonl"
    source.write_text(json.dumps({"id": 1, "text": "<script>a, b</script> [bold]x. \x00 y"}) + "\n")
    comparison = compare(NAMES, source)
    console = Console(record=True, width=120, file=(tmp_path / "out").open("w"))
    show(comparison, limit_characters=3, console=console)
    console.file.close()
    printed = console.export_text()
    assert "[bold]x." in printed and "reference_v1: 3 sentences" in printed


def test_what_cannot_be_compared_says_why(tmp_path: Path) -> None:
    with pytest.raises(CorpusError, match=r"gone.txt.*cannot be opened: .*No such file"):
        compare(NAMES, tmp_path / "gone.txt")
    (tmp_path / "bad.txt").write_bytes(b"\xff")
    with pytest.raises(CorpusError, match="not UTF-8"):
        compare(NAMES, tmp_path / "bad.txt")
    (tmp_path / "bad.txt").write_bytes(b"")
    with pytest.raises(SegmenterError, match="unknown segmenter"):
        compare(["none_v1"], tmp_path / "bad.txt")
