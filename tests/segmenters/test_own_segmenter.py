"""Segmenters are found by name; the example in docs/how-to/own-segmenter.md works unchanged."""

import re
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import segmenters
from segmenters.contract import check_ends

PAGE = (Path(__file__).parents[2] / "docs" / "how-to" / "own-segmenter.md").read_text(encoding="utf-8")


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The module of the page, installed with its entry point."""
    (code,) = re.findall(r"```python title=\"paragraphs.py\"\n(.*?)```", PAGE, re.S)
    (toml,) = re.findall(r"```toml\n\[project.entry-points.\"(.*?)\"\]\n(.*?) = \"(.*?)\"\n```", PAGE, re.S)
    (tmp_path / "paragraphs.py").write_text(code)
    info = tmp_path / "paragraphs-1.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: paragraphs\nVersion: 1\n")
    (info / "entry_points.txt").write_text(f"[{toml[0]}]\n{toml[1]} = {toml[2]}\n")
    monkeypatch.syspath_prepend(tmp_path)


@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(text=st.text(alphabet="a \n", max_size=20))
def test_it_is_found_by_name_and_fulfils_the_contract(package: None, text: str) -> None:
    for name in ("paragraphs_v1", "paragraphs:Paragraphs"):
        segmenter = segmenters.load(name, min_breaks=3)
        check_ends(text, segmenter.split([text])[0])
    assert segmenter.fingerprint()["options"] == {"min_breaks": 3}
    assert segmenter.split(["a\n\n\nb\n\nc"])[0].tolist() == [4, 8]
    assert "paragraphs_v1" in segmenters.names()


def test_every_built_in_name_is_listed() -> None:
    assert segmenters.names().items() >= segmenters.BUILT_IN.items()
    assert all(
        segmenters.load(name).name == name
        for name in ("punctuation_v1", "reference_v1", "learned_v1", "learned_v2", "fixed_v1")
    )


def test_an_unknown_name_gets_the_nearest_one() -> None:
    with pytest.raises(segmenters.SegmenterError, match="did you mean 'learned_v1'"):
        segmenters.load("learnedv1")


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("no_such_module:Class", "cannot be imported"),
        ("segmenters.fixed:NoSuchClass", "cannot be imported"),
        ("segmenters.scoring:Score", "is not a segmenters.Segmenter"),
    ],
)
def test_what_is_no_segmenter_is_refused(name: str, says: str) -> None:
    with pytest.raises(segmenters.SegmenterError, match=says):
        segmenters.load(name)
