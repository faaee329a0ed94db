"""Plain text that is cut into documents: nothing is lost, sizes are bounded, and the dev split is not empty."""

import math
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.config import DataConfig
from pipeline.corpus import Document, WorkUnitReader, find_sources, plan_work_units, survey_all
from pipeline.corpus.documents import is_dev_document
from pipeline.corpus.formats.text import cut_documents

PROSE = "It rained all day. The river rose, and nobody came.\nThen it stopped.\n\n"


def read(
    path: Path, work_unit_bytes: int = 2**21, **options: object
) -> tuple[list[Document], list[Document]]:
    """The documents of a file: those of train, and those of dev."""
    data = DataConfig.model_validate({"inputs": [str(path)], "document_bytes": "auto", **options})
    surveys = survey_all(find_sources(data), data, work_unit_bytes)
    reader = WorkUnitReader(data)
    units = plan_work_units(surveys, data, work_unit_bytes)
    found = [one for unit in units for one in reader.read(unit)]
    documents = [one for one in found if isinstance(one, Document)]
    assert documents == found
    dev = [one for one in documents if is_dev_document(one.hashed, data.dev_fraction)]
    return [one for one in documents if one not in dev], dev


@given(
    text=st.text("ab .\n\r。é😀", max_size=400), document_bytes=st.integers(4, 60), chunk=st.integers(1, 100)
)
def test_documents_joined_are_the_text_and_are_within_bounds(
    text: str, document_bytes: int, chunk: int
) -> None:
    content = text.encode()
    chunks = [content[start : start + chunk] for start in range(0, len(content), chunk)]
    documents = list(cut_documents(iter(chunks), document_bytes))
    assert b"".join(documents) == content
    assert [one.decode() for one in documents] and all(documents) if content else not documents
    assert all(document_bytes - 3 <= len(one) <= 2 * document_bytes for one in documents[:-1])
    assert documents == list(cut_documents(iter([content]), document_bytes))  # chunks do not matter


@pytest.mark.parametrize(
    ("text", "first"),
    [
        ("aaaa b. c\nd\n\ne" + "x" * 90, "aaaa b. c\nd\n\n"),
        ("aaaa b. c\nde" + "x" * 90, "aaaa b. c\n"),
        ("aaaa 3.1 b. c de" + "x" * 90, "aaaa 3.1 b. "),
        ("雨が降りました。川は" + "x" * 90, "雨が降りました。"),
        ("aaaaaaa bb" + "x" * 90, "aaaaaaa "),
    ],
)
def test_a_document_ends_at_the_best_place(text: str, first: str) -> None:
    size = 20 if "雨" in text else 8
    assert next(cut_documents(iter([text.encode()]), size)).decode() == first


@pytest.mark.parametrize("num_bytes", [3_000, 10_000, 300_000, 3_000_000])
@pytest.mark.parametrize("unit", [PROSE, PROSE.replace("\n", " "), "雨が降りました。川は増水した。"])
def test_a_single_file_of_any_size_has_a_dev_split(tmp_path: Path, num_bytes: int, unit: str) -> None:
    for name in ("my.txt", "other.txt", "third.txt"):  # the name decides which documents are taken
        path = tmp_path / name
        path.write_text(unit * math.ceil(num_bytes / len(unit.encode())), encoding="utf-8")
        train, dev = read(path, dev_fraction=0.03)
        assert dev and len(train) >= 3 * len(dev)
        if num_bytes >= 300_000:
            share = sum(one.num_bytes for one in dev) / path.stat().st_size
            assert 0.015 < share < 0.06


def test_work_units_cut_between_documents_and_max_bytes_stops(tmp_path: Path) -> None:
    path = tmp_path / "my.txt"
    path.write_text("".join(f"{number} {PROSE}" for number in range(5_000)), encoding="utf-8")
    train, dev = read(path, work_unit_bytes=20_000, document_bytes=1_000, dev_fraction=0.1)
    found = sorted([*train, *dev], key=lambda one: int(one.position.removeprefix("line ")))
    assert "".join(one.text for one in found) == path.read_text(encoding="utf-8")
    assert 0.05 < len(dev) / len(found) < 0.2
    capped, more = read(path, work_unit_bytes=20_000, max_bytes=50_000, dev_fraction=0.1)
    assert 50_000 <= sum(one.num_bytes for one in [*capped, *more]) < 80_000 and more


def test_without_the_option_a_file_is_one_document(tmp_path: Path) -> None:
    path = tmp_path / "my.txt"
    path.write_text(PROSE * 100, encoding="utf-8")
    train, dev = read(path, document_bytes=None)
    assert [one.text for one in train] == [PROSE * 100] and not dev
