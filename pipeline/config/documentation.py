"""The keys of the configuration with types, defaults and descriptions, read from the classes of the sections."""

import dataclasses
import difflib
import json
import re
from collections.abc import Iterator, Sequence
from types import UnionType
from typing import Any, Literal, Union, get_args, get_origin

import annotated_types
from pydantic import AfterValidator
from pydantic.fields import FieldInfo

from pipeline.config import paths
from pipeline.config.renamed import new_name
from pipeline.config.section import Section, is_section
from pipeline.config.tree import Config
from pipeline.errors import ConfigError

ITEM, NAME = "N", "NAME"
"""Placeholders for a position in a list of sections, and for a name that the user chooses."""
_FREE = "mapping to"
"""Start of the type of a mapping whose keys are not ours, such as those of Hugging Face."""
_NO_BOUND = 1e9
"""Upper bounds from here on only keep a number in its machine type, and are not shown."""
_PATHS = {
    paths.resolved_path: "path or URL",
    paths.model_path: "path or URL, or name on the Hugging Face hub",
    paths.machine_path: "path on each machine",
    paths.resolved_input: "path, glob, URL or `datasets:NAME`",
    paths.resolved_tracking_uri: "URL, or `sqlite:///FILE`",
}
_PLAIN = {
    bool: "true or false",
    int: "whole number",
    float: "number",
    str: "text",
    object: "any value",
    Any: "any value",
}


@dataclasses.dataclass(frozen=True)
class Key:
    """One key of the configuration."""

    key: str
    """Dotted."""
    kind: str
    """Its type in words."""
    default: Any
    """The JSON value; None also where the key is required or a section."""
    description: str
    is_required: bool = False
    section: type[Section] | None = None
    """Class of a section."""

    @property
    def shown_default(self) -> str:
        """The YAML text; empty for a section."""
        if self.section is not None:
            return ""
        return "required" if self.is_required else json.dumps(self.default, ensure_ascii=False)

    def as_json(self) -> dict[str, Any]:
        """For programs."""
        return {
            "key": self.key,
            "type": self.kind,
            "default": self.default,
            "required": self.is_required,
            "description": self.description,
        }


def all_keys(tree: type[Section] = Config) -> list[Key]:
    """Every key of a tree in the order of the classes; a section comes before its keys."""
    return list(_keys_of(tree, Config() if tree is Config else None, ""))


def keys_at(key: str | None) -> list[Key]:
    """A key; of a section also all keys in it. None: every key.

    Raises `ConfigError` for an unknown key, naming the nearest.
    """
    keys = all_keys()
    if key is None:
        return keys
    if today := new_name(key):
        raise ConfigError(f"{key} is now called {today}")
    free = (one for one in keys if one.kind.startswith(_FREE) and key.startswith(f"{one.key}."))
    found = next((one for one in keys if _pattern(one.key).fullmatch(key)), None) or next(free, None)
    if found is None:
        (near,) = difflib.get_close_matches(key, [one.key for one in keys], n=1, cutoff=0.0)
        raise ConfigError(f"there is no key {key!r}; the nearest is {near!r}")
    return [one for one in keys if one is found or one.key.startswith(f"{found.key}.")]


def markdown(keys: Sequence[Key] | None = None, introduction: str | None = None) -> str:
    """The page `docs/configuration.md`, or one of other keys: one table per section; a class that several sections
    share is listed once."""
    keys = all_keys() if keys is None else keys
    top_keys = [one for one in keys if "." not in one.key]
    tops = [top for top in top_keys if any(one.key.startswith(f"{top.key}.") for one in keys)]
    parts = [introduction or _INTRODUCTION, _table([one for one in top_keys if one not in tops])]
    explained: dict[type[Section], str] = {}
    for top in tops:
        rows = []
        skipped: str | None = None
        for one in (one for one in keys if one.key.startswith(f"{top.key}.")):
            if skipped is not None and one.key.startswith(skipped):
                continue
            skipped = None
            if one.section is not None and one.section in explained:
                skipped = f"{one.key}."
                same = f"{one.description} Its keys are those of `{explained[one.section]}`.".strip()
                rows.append(dataclasses.replace(one, description=same))
                continue
            if one.section is not None:
                explained[one.section] = one.key
            rows.append(one)
        parts.append(f"## `{top.key}`\n\n{top.description}\n\n{_table(rows)}")
    return "\n\n".join(parts) + "\n"


_INTRODUCTION = """# Configuration

Every key of a configuration file, from the classes in `pipeline/config/`. `sllm config KEY` shows a part of it;
`sllm config --markdown > docs/configuration.md` writes this page. On the command line a key is set by `KEY=VALUE`, with
the value in YAML. `N` stands for a position in a list, `NAME` for a name that you choose; `null` is no value, which the
descriptions call "none"."""


_BAR = r"\|"


def _table(keys: Sequence[Key]) -> str:
    rows = [
        f"| `{one.key}` | {one.kind} | {_default_cell(one)} | {one.description.replace('|', _BAR)} |"
        for one in keys
    ]
    return "\n".join(["| key | type | default | meaning |", "|---|---|---|---|", *rows])


def _default_cell(one: Key) -> str:
    return one.shown_default if one.is_required or one.section is not None else f"`{one.shown_default}`"


def _keys_of(section: type[Section], defaults: Section | None, prefix: str) -> Iterator[Key]:
    for name, field in section.model_fields.items():
        key = f"{prefix}{name}"
        default = (
            field.get_default(call_default_factory=True) if defaults is None else getattr(defaults, name)
        )
        kind = field.annotation
        description = " ".join((field.description or "").split())
        if is_section(kind):
            yield Key(key, "section", None, description or _first_paragraph(kind), section=kind)
            yield from _keys_of(kind, default if isinstance(default, kind) else None, f"{key}.")
            continue
        yield Key(
            key,
            _in_words(kind, field.metadata),
            None if field.is_required() else _as_json(default),
            description,
            field.is_required(),
        )
        held, placeholder = _section_held(kind)
        if held is not None:
            yield from _keys_of(held, None, f"{key}.{placeholder}.")


def _section_held(kind: Any) -> tuple[type[Section] | None, str]:
    """The sections in a list or a mapping, and the placeholder for their position or name."""
    arguments = [one for one in get_args(kind) if one is not Ellipsis]
    if get_origin(kind) in (tuple, dict) and arguments and is_section(arguments[-1]):
        return arguments[-1], ITEM if get_origin(kind) is tuple else NAME
    return None, ""


def _first_paragraph(section: type[Section]) -> str:
    return " ".join((section.__doc__ or "").split("\n\n")[0].split())


def _as_json(value: Any) -> Any:
    return list(value) if isinstance(value, tuple) else value


def _in_words(kind: Any, metadata: Sequence[Any]) -> str:
    """A type with its bounds, for a person."""
    if hasattr(kind, "__metadata__"):  # Annotated
        return _in_words(get_args(kind)[0], [*_flat(kind.__metadata__), *metadata])
    origin, arguments = get_origin(kind), get_args(kind)
    if origin in (Union, UnionType):
        words = [_in_words(one, metadata if one is not type(None) else []) for one in arguments]
        return ", or ".join(words)
    if kind is type(None):
        return "`null`"
    if origin is Literal:
        *first, last = (f"`{value}`" for value in arguments)
        return f"{', '.join(first)} or {last}" if first else last
    if origin is tuple:
        return f"list ({_in_words(arguments[0], [])})"
    if origin is dict:
        return "mapping" if is_section(arguments[1]) else f"{_FREE} {_in_words(arguments[1], [])}"
    if is_section(kind):
        return "sections"
    for one in metadata:
        if isinstance(one, AfterValidator) and one.func in _PATHS:
            return _PATHS[one.func]
    return _PLAIN.get(kind, str(kind)) + (_bounds(metadata) if kind in (int, float) else "")


def _flat(metadata: Sequence[Any]) -> Iterator[Any]:
    for one in metadata:
        if isinstance(one, FieldInfo):
            yield from one.metadata
        else:
            yield one


def _bounds(metadata: Sequence[Any]) -> str:
    words = []
    for one in metadata:
        match one:
            case annotated_types.Ge(ge=bound):
                words.append(f"at least {bound}")
            case annotated_types.Gt(gt=bound):
                words.append(f"above {bound}")
            case annotated_types.Le(le=bound) if float(bound) < _NO_BOUND:  # type: ignore[arg-type]
                words.append(f"at most {bound}")
            case annotated_types.Lt(lt=bound) if float(bound) < _NO_BOUND:  # type: ignore[arg-type]
                words.append(f"below {bound}")
    return "".join(f", {word}" for word in words)


def _pattern(key: str) -> re.Pattern[str]:
    """Pattern that matches a key written with placeholders or with real positions and names."""
    parts = ({ITEM: r"(?:N|\d+)", NAME: r"[^.]+"}.get(part, re.escape(part)) for part in key.split("."))
    return re.compile(r"\.".join(parts))
