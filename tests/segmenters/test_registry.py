import pytest

from segmenters import BUILT_IN, SegmenterError, load, names


def test_every_built_in_name_is_listed() -> None:
    assert names().items() >= BUILT_IN.items()
    assert all(
        load(name).name == name for name in ("punctuation_v1", "reference_v1", "learned_v1", "fixed_v1")
    )


def test_an_unknown_name_gets_the_nearest_one() -> None:
    with pytest.raises(SegmenterError, match="did you mean 'learned_v1'"):
        load("learned_v2")


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("no_such_module:Class", "cannot be imported"),
        ("segmenters.fixed:NoSuchClass", "cannot be imported"),
        ("segmenters.scoring:Score", "is not a segmenters.Segmenter"),
    ],
)
def test_what_is_no_segmenter_is_refused(name: str, says: str) -> None:
    with pytest.raises(SegmenterError, match=says):
        load(name)
