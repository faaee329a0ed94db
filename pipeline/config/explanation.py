"""What is wrong with a configuration, in plain words."""

import datetime
import difflib
import reprlib
from collections.abc import Iterator, Mapping
from typing import Any, get_args, get_origin

from pydantic import ValidationError

from pipeline.config.renamed import REMOVED, new_name
from pipeline.config.section import Section, alternatives, is_section

_LONGEST_VALUE = 80
_KINDS = (
    (bool, "yes or no"),
    (int | float, "a number"),
    (str, "text"),
    (list | tuple | set, "a list"),
    (Mapping, "a mapping"),
    (datetime.date, "a date"),
)
_EXPECTED = {
    "int": "must be a whole number",
    "float": "must be a number",
    "bool": "must be true or false",
    "string": "must be text",
    "tuple": "must be a list",
    "list": "must be a list",
    "dict": "must be a mapping of keys and values",
    "model": "must be a section, that is a mapping of keys and values",
    "finite": "must be a finite number",
}
"""Expected value, by the first word of the type of pydantic's error."""


def explained(error: ValidationError, root: type[Section]) -> dict[tuple[str, ...], str]:
    """All mistakes: the keys that lead to each one, and what was expected and given, in words."""
    by_key: dict[tuple[str, ...], dict[str, Any]] = {}
    for each in error.errors(include_url=False):
        path, section = _keys_of(each["loc"], root)
        key = tuple(path)
        # Of the errors of a union's alternatives, the most specific one, such as a path that cannot be resolved.
        if key not in by_key or each["type"] == "value_error":
            by_key[key] = {**each, "path": path, "section": section}
    return {key: _explain(".".join(key), each) for key, each in by_key.items()}


def plain_kind(value: Any) -> str:
    """What a value is, in words."""
    if value is None:
        return "nothing"
    return next((name for kind, name in _KINDS if isinstance(value, kind)), f"a {type(value).__name__}")


def _explain(key: str, error: Mapping[str, Any]) -> str:
    kind: str = error["type"]
    value = error["input"]
    if kind == "extra_forbidden":
        if today := new_name(key):
            return f"{key} is now called {today}"
        if key in REMOVED:
            return f"{key} is gone: {REMOVED[key]}; leave it out"
        *parents, unknown = error["path"]
        near = difflib.get_close_matches(unknown, error["section"].model_fields, n=1, cutoff=0.0)
        return f"unknown key {key!r}; the nearest known is {'.'.join([*parents, *near])!r}"
    if kind == "missing":
        return f"{key} is missing"
    if kind == "value_error":
        return f"{key}: {error['ctx']['error']}"
    if value is None:
        return f"{key} has no value: give one, or leave the key out"
    expected: str = error["msg"].replace("Input should be", "must be").replace("Input should", "must")
    first = kind.partition("_")[0]
    if kind.endswith(("_type", "_parsing", "_from_float")) and first in _EXPECTED:
        expected = _EXPECTED[first]
        if first == "string" and not isinstance(value, list | tuple):
            given = f"and {_shown(value)} is {plain_kind(value)} in YAML"
            return f"{key} must be text, {given}: quote it, on a command line as {key}='\"...\"'"
    return f"{key} {expected} (got {_shown(value)})"


def _shown(value: Any) -> str:
    short = reprlib.Repr()
    short.maxstring = short.maxother = _LONGEST_VALUE
    return short.repr(value)


def _keys_of(location: tuple[int | str, ...], root: type[Section]) -> tuple[list[str], type[Section]]:
    """The keys of a location, without pydantic's names for the alternatives of a union, and the section that contains
    it."""
    path: list[str] = []
    section, kinds = root, (root,)
    for part in location:
        inside = next((kind for kind in kinds if is_section(kind)), None)
        if inside is not None:
            section = inside
            path.append(str(part))
            field = section.model_fields.get(str(part))
            kinds = alternatives(field.annotation) if field is not None else ()
        elif isinstance(part, int) or any(get_origin(kind) is dict for kind in kinds):
            path.append(str(part))
            kinds = tuple(_items(kinds))
    return path, section


def _items(kinds: tuple[Any, ...]) -> Iterator[Any]:
    for kind in kinds:
        arguments = [one for one in get_args(kind) if one is not Ellipsis]
        if get_origin(kind) in (tuple, list, dict) and arguments:
            yield from alternatives(arguments[-1])
