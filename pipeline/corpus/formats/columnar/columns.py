"""Columns of Parquet and Arrow, also nested ones, and the values in them."""

import collections
from collections.abc import Sequence
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from pipeline.config import DataConfig
from pipeline.corpus.formats.lines import decoded
from pipeline.errors import CorpusError


def check_columns(path: str, names: Sequence[str], data: DataConfig, schema: pa.Schema | None = None) -> None:
    """Raise `CorpusError` where two columns have the same name, or the text column is missing."""
    for name, count in collections.Counter(names).items():
        if name and count > 1:
            raise CorpusError(f"input {path!r} has two columns {name!r}: rename or drop one of them")
    if schema is not None:
        if any(_is_ambiguous(schema, field) for field in (data.text_field, data.id_field)):
            raise CorpusError(
                f"input {path!r} has a struct with two fields of one name: rename or drop one of them"
            )
        found = column_path(schema, data.text_field) is not None
    else:
        found = data.text_field in names
    if not names:
        raise CorpusError(f"input {path!r} is empty: it has no columns; make it again, or leave it out")
    if not found:
        raise CorpusError(
            f"input {path!r} has no column {data.text_field!r}; it has {', '.join(map(repr, names))}: "
            f"name the one with the text in data.text_field"
        )


def check_schema(path: str, schema: pa.Schema, data: DataConfig) -> None:
    """As `check_columns`; also raises `CorpusError` where names of columns are no text."""
    try:
        check_columns(path, schema.names, data, schema)
    except UnicodeDecodeError as error:
        raise CorpusError(
            f"input {path!r} has a column whose name is not UTF-8 ({error.object!r}): make the file again"
        ) from error


def column_path(schema: Any, field: str) -> list[str] | None:
    """Names from the column to the field, or None: the column with exactly this name, else fields of structs."""
    if field in _names(schema):
        return [field]
    head, _, rest = field.partition(".")
    if not rest or head not in _names(schema):
        return None
    inner = schema.field(head).type
    path = column_path(inner, rest) if pa.types.is_struct(inner) else None
    return None if path is None else [head, *path]


def _names(schema: Any) -> list[str]:
    return [schema.field(index).name for index in range(_size(schema))]


def _size(schema: Any) -> int:
    return schema.num_fields if isinstance(schema, pa.DataType) else len(schema)


def _is_ambiguous(schema: Any, field: str) -> bool:
    while True:
        names = _names(schema)
        if len(names) != len(set(names)) and isinstance(schema, pa.DataType):
            return True
        head, _, rest = field.partition(".")
        if field in names or not rest or names.count(head) != 1:
            return False
        schema, field = schema.field(head).type, rest
        if not pa.types.is_struct(schema):
            return False


def column_values(path: str, batch: pa.RecordBatch, field: str) -> list[Any] | None:
    """The field of every row, or None where the batch lacks it; a value that cannot be read is replaced by its error.

    Raises `CorpusError` for a batch that is damaged.
    """
    names = column_path(batch.schema, field)
    if names is None:
        return None
    column = batch.column(names[0])
    for name in names[1:]:
        column = pc.struct_field(column, name)
    try:
        is_text = pa.types.is_string(column.type) or pa.types.is_large_string(column.type)
        raw = (
            column.cast(pa.binary() if pa.types.is_string(column.type) else pa.large_binary())
            if is_text
            else column
        )
        raw.validate(full=True)
    except (pa.ArrowException, ValueError) as error:
        raise CorpusError(f"input {path!r} is damaged: {error}; fetch or make it again") from error
    try:
        return list(column.to_pylist())
    except (ValueError, ArithmeticError, RecursionError, LookupError):
        return [_value(raw[index], is_text) for index in range(len(raw))]


def _value(scalar: Any, is_text: bool) -> Any:
    try:
        value = scalar.as_py()
    except (ValueError, ArithmeticError, RecursionError, LookupError) as error:
        return error
    return decoded(value) if is_text and value is not None else value
