from hypothesis import given
from hypothesis import strategies as st

from infra.tracking.params import flatten, unflatten
from pipeline.config import Config


def test_flatten_keeps_every_value():
    assert flatten({"a": {"b": 1, "c": []}, "d": {}, "e": None, "f%": "x"}) == {
        "a.b": "1",
        "a.c": "[]",
        "d": "{}",
        "e": "null",
        "f_": "x",
    }


keys = st.text("abc_1", min_size=1)
values = st.none() | st.booleans() | st.integers() | st.lists(st.integers()) | st.text("xyz é", max_size=20)


@given(st.dictionaries(keys, values | st.dictionaries(keys, values)))
def test_parameters_give_the_configuration_back(tree):
    assert unflatten(flatten(tree)) == tree


def test_long_values_come_back_whole():
    tree = {"inputs": [f"part-{number}.jsonl" for number in range(5000)]}
    flat = flatten(tree)
    assert len(flat) > 10 and max(map(len, flat.values())) <= 6000
    assert unflatten(flat) == tree


def test_our_own_configuration_comes_back():
    tree = Config().model_dump(mode="json")
    assert unflatten(flatten(tree)) == tree
