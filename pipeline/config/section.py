"""The base class of all sections of the configuration, and the types of its numbers."""

import dataclasses
from types import UnionType
from typing import Annotated, Any, Literal, TypeGuard, Union, get_args, get_origin

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, model_validator

DOCUMENTED = ConfigDict(use_attribute_docstrings=True)
"""The docstring under a field is its description."""


class Section(BaseModel):
    """A frozen part of the tree; the docstring under a field is its description."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True, allow_inf_nan=False)

    @classmethod
    def __pydantic_init_subclass__(cls, **_: Any) -> None:
        """Add the descriptions of the fields that a section inherits from a dataclass."""
        for shared in filter(dataclasses.is_dataclass, cls.__bases__):
            for name, described in TypeAdapter(shared).json_schema()["properties"].items():
                cls.model_fields[name].description = described["description"]

    @model_validator(mode="before")
    @classmethod
    def _as_people_write_it(cls, given: Any) -> Any:
        """A single value where a list is expected becomes a list of one; an empty section or list has its default."""
        if not isinstance(given, dict):
            return given
        tree: dict[Any, Any] = {}
        for key, value in given.items():
            kinds = alternatives(cls.model_fields[key].annotation) if key in cls.model_fields else ()
            if value is None and kinds and type(None) not in kinds and all(map(_is_collection, kinds)):
                continue
            is_list = bool(kinds) and all(get_origin(kind) is tuple or kind is type(None) for kind in kinds)
            if is_list and not isinstance(value, list | tuple | set | None):
                value = (value,)
            if is_list and isinstance(value, list | tuple):
                value = [_no_number(one, get_args(kinds[0])[:1]) for one in value]
            tree[key] = _no_number(value, kinds)
        return tree


Count = Annotated[int, Field(ge=1, lt=2**31)]
"""A number of things, at least 1."""
CountOrZero = Annotated[int, Field(ge=0, lt=2**31)]
"""A count that may be 0."""
LongCount = Annotated[int, Field(ge=0, lt=2**63)]
"""A count in a saved file, or a position in a stream: it may be 0, and fits 64 bits."""
Bytes = Annotated[int, Field(gt=0, lt=2**62)]
"""A number of bytes, or of what can be as many, such as the tokens of a corpus."""
Seed = Annotated[int, Field(ge=0, lt=2**32)]
"""Seed of random numbers, in the range that all generators accept."""
Share = Annotated[float, Field(gt=0, le=1e9, allow_inf_nan=False)]
"""Relative weight of one among several."""


def alternatives(annotation: Any) -> tuple[Any, ...]:
    """The types that a value of this annotation may have: the members of a union, the type in `Annotated`, or
    itself."""
    if get_origin(annotation) is Annotated:
        return alternatives(get_args(annotation)[0])
    if get_origin(annotation) in (Union, UnionType):
        return tuple(kind for part in get_args(annotation) for kind in alternatives(part))
    return (annotation,)


def is_section(kind: Any) -> TypeGuard[type[Section]]:
    """Whether a type is a subclass of `Section`."""
    return isinstance(kind, type) and issubclass(kind, Section)


def _no_number(value: Any, kinds: tuple[Any, ...]) -> Any:
    """`true` where a number is expected, as a text: so it is refused, and not taken for 1."""
    wanted = {one for kind in kinds for one in alternatives(kind)}
    is_number = bool({int, float} & wanted) or any(get_origin(kind) is Literal for kind in wanted)
    return str(value).lower() if isinstance(value, bool) and is_number and bool not in wanted else value


def _is_collection(kind: Any) -> bool:
    return get_origin(kind) in (tuple, dict) or is_section(kind)
