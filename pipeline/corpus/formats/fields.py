"""The object in a JSON line and its fields, also nested ones such as `meta.text`."""

import collections
import json
import reprlib
from typing import Any

MISSING = object()
"""Stands for a missing value."""


class _Repetitive(dict[str, Any]):
    """An object with a duplicate key."""

    repeated: str


def json_value(text: str) -> Any:
    """The value of JSON text. Raises `ValueError` for broken or too deeply nested JSON, and for a number too long to
    read."""
    try:
        return _DECODER.decode(text)
    except RecursionError as error:
        raise ValueError("nested too deeply") from error
    except json.JSONDecodeError as error:
        if error.msg != "Extra data":
            raise
        raise ValueError(
            f"after the JSON value, at character {error.pos}, there is more: a line end may be missing there, as "
            "between files that were joined"
        ) from error
    except ValueError as error:
        raise ValueError("a number in it is too long to read") from error


def repeated_key(row: Any, field: str) -> str | None:
    """A duplicate key of the object, or of a nested one that contains the field."""
    while isinstance(row, dict):
        if isinstance(row, _Repetitive):
            return row.repeated
        if field in row:
            return None
        head, _, field = field.partition(".")
        row = row.get(head)
    return None


def field_value(row: dict[str, Any], field: str) -> Any:
    """The value of the field: that of the key with exactly this name, else for `meta.text` of `text` in the object
    `meta`."""
    if field in row or "." not in field:
        return row.get(field, MISSING)
    head, _, rest = field.partition(".")
    inner = row.get(head)
    return field_value(inner, rest) if isinstance(inner, dict) else MISSING


def shortly(value: object) -> str:
    """The value for a message, shortened and in ASCII."""
    return ascii(reprlib.repr(value))[1:-1]


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    row = dict(pairs)
    if len(row) == len(pairs):
        return row
    repetitive = _Repetitive(row)
    [(repetitive.repeated, _)] = collections.Counter(key for key, _ in pairs).most_common(1)
    return repetitive


_DECODER = json.JSONDecoder(object_pairs_hook=_object)
