import sys
import types
from collections.abc import Iterator

import numpy as np
import pytest

from segmenters import SegmenterError, load
from segmenters.wtpsplit_sat import _model


class _Sat:
    """In place of the package's class: a boundary is likely after each full stop."""

    def __init__(self, name: str) -> None:
        if name == "gone":
            raise OSError("no such model")

    def predict_proba(self, texts: list[str]) -> Iterator[np.ndarray]:
        return (np.array([0.9 if char == "." else 0.1 for char in text]) for text in texts)


@pytest.fixture(autouse=True)
def forget_models() -> Iterator[None]:
    _model.cache_clear()
    yield
    _model.cache_clear()


def test_probabilities_become_ends_with_the_white_space_after_them(monkeypatch: pytest.MonkeyPatch) -> None:
    module = types.ModuleType("wtpsplit")
    module.SaT = _Sat  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "wtpsplit", module)
    found = load("wtpsplit_v1", model="x").split(["One.  Two. ", " ", "", "Three"])
    assert [ends.tolist() for ends in found] == [[6, 11], [1], [], [5]]
    with pytest.raises(SegmenterError, match=r"cannot load the model 'gone' \(there is no such folder\)"):
        load("wtpsplit_v1", model="gone")


def test_a_missing_package_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "wtpsplit", None)
    with pytest.raises(SegmenterError, match="needs the package wtpsplit"):
        load("wtpsplit_v1")
