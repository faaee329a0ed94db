import json
import time

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from pipeline.errors import ConfigError
from pipeline.unique_keys import read_json, read_value, read_yaml

scalars = st.none() | st.booleans() | st.integers() | st.text("ab: #'\"\n", max_size=4)
trees = st.recursive(
    scalars,
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text("abc", min_size=1), inner, max_size=3)
    ),
    max_leaves=10,
)


@given(trees)
def test_what_repeats_no_key_is_read_as_it_is(tree):
    assert read_yaml(yaml.safe_dump(tree), "x") == tree
    assert read_json(json.dumps(tree), "x") == tree


def doubled(tree, way):
    """A block of YAML, and one of JSON, of the tree with a key doubled in some mapping on the way; None: no mapping."""
    if isinstance(tree, list):
        for index, child in enumerate(tree):
            if (inside := doubled(child, way)) is not None:
                rest = [json.dumps(other) for other in tree]
                return f"[{', '.join([*rest[:index], inside, *rest[index + 1 :]])}]"
    if isinstance(tree, dict) and tree:
        items = [f"{json.dumps(key)}: {json.dumps(value)}" for key, value in tree.items()]
        if way > 0:
            for index, child in enumerate(tree.values()):
                if (inside := doubled(child, way - 1)) is not None:
                    items[index] = f"{json.dumps(list(tree)[index])}: {inside}"
                    return "{" + ",\n".join(items) + "}"
        return "{" + ",\n".join([*items, items[0]]) + "}"
    return None


@given(trees, st.integers(0, 3))
def test_a_key_given_twice_is_refused_at_any_depth(tree, way):
    text = doubled(tree, way)
    if text is None:
        return
    with pytest.raises(ConfigError, match=r"x: the key .* is given twice in one mapping, lines? \d+"):
        read_yaml(text, "x")
    with pytest.raises(
        ValueError, match=r"x: the key .* is given twice in one object, which begins in line \d+"
    ):
        read_json(text, "x")


def test_the_lines_of_both_are_named():
    with pytest.raises(
        ConfigError, match=r"c\.yaml: the key 'data' is given twice in one mapping, lines 2 and 5"
    ):
        read_yaml("# two sections\ndata:\n  a: 1\nvae: {}\ndata:\n  b: 1\n", "c.yaml")
    with pytest.raises(ValueError, match="which begins in line 2"):
        read_json('{"a": {}, "b":\n {"c": 1,\n "c": 2}}', "d.json")


def test_merge_keys_give_way_and_are_no_repetition():
    tree = read_yaml("a: &a {x: 1, y: 1}\nb: &b {<<: *a, x: 2}\nc: {<<: [*b, *a], y: 3}\n", "x")
    assert tree["b"] == {"x": 2, "y": 1} and tree["c"] == {"x": 2, "y": 3}
    with pytest.raises(ConfigError, match="'<<' is given twice"):
        read_yaml("a: &a {x: 1}\nb: {<<: *a, <<: *a}", "x")


@pytest.mark.parametrize(
    "text",
    [
        "[" * 5000,
        "a: &a [*a]",
        "a: 2020-13-45",
        "a: " + "9" * 5000,
        "? [1]\n: 2",
        "a: *b",
        "a: !!python/x 1",
        "a: 1\n---\n",
    ],
)
def test_what_is_no_yaml_is_one_error(text):
    with pytest.raises(ConfigError, match="x is not valid YAML"):
        read_yaml(text, "x")


def test_values_of_overrides():
    assert read_value("*.jsonl", "x") == "*.jsonl" and read_value("@home", "x") == "@home"
    assert read_value("a#b", "x") == "a#b" and read_value("'a #b'", "x") == "a #b"
    for value in ("a #b", "[a, b] # c"):
        with pytest.raises(ConfigError, match="would be a comment"):
            read_value(value, "x")


@pytest.mark.parametrize("depth", [100, 600, 900])
@pytest.mark.parametrize("around", [("[", "]"), ('{"b":', "}")])
def test_a_repeated_key_is_refused_however_deep_it_lies(depth, around):
    before, after = around
    with pytest.raises(ValueError, match="'a' is given twice"):
        read_json(before * depth + '{"a": 1, "a": 2}' + after * depth, "x")


def test_a_repeated_key_among_many_is_found_at_once():
    keys = [*map(str, range(20_000)), "19999"]
    start = time.process_time()
    with pytest.raises(ValueError, match="'19999' is given twice"):
        read_json("{" + ",".join(f'"{key}": 1' for key in keys) + "}", "x")
    assert time.process_time() - start < 5


@pytest.mark.parametrize("text", ["[" * 101 + "]" * 101, '{"a":' * 500 + "1" + "}" * 500, "[" * 10**5])
def test_json_that_is_nested_too_deeply_is_refused(text):
    with pytest.raises(ValueError, match="nested too deeply"):
        read_json(text, "x")


@pytest.mark.parametrize("text", [r'"\ud800"', r'{"\udfff": 1}', r'[{"a": ["\ud83d"]}]'])
def test_json_with_a_lone_surrogate_could_not_be_written_again(text):
    with pytest.raises(ValueError, match="surrogates"):
        read_json(text, "x")


def test_json_of_any_usual_depth_and_text_is_read():
    assert read_json("[" * 99 + "]" * 99, "x") is not None
    assert read_json(r'{"a": "\ud83d\ude00"}', "x") == {"a": "\U0001f600"}
