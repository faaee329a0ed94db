"""YAML and JSON in which a repeated key is an error with its line; the libraries drop the first value silently."""

import contextlib
import json
from collections.abc import Hashable, Sequence
from json.decoder import JSONObject  # type: ignore[attr-defined]
from json.scanner import py_make_scanner  # type: ignore[attr-defined]
from typing import Any

import yaml
from yaml.nodes import MappingNode, Node, SequenceNode

from pipeline.errors import ConfigError

_INDICATORS = ("*", "@", "`", "%")
"""Characters that no YAML value begins with, but globs and prompts in overrides do."""

MAX_DEPTH = 100
"""Deepest nesting in JSON; no file that sllm writes has 20 levels."""


class _Loader(yaml.SafeLoader):
    """The safe loader; it refuses a repeated key in a mapping, and a mapping that contains itself."""

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self._open: list[str] = []
        """Anchors of the nodes that are being read."""

    def compose_node(self, parent: Node | None, index: int) -> Node | None:
        if self.check_event(yaml.AliasEvent):
            event = self.peek_event()
            if event.anchor in self._open:
                raise yaml.composer.ComposerError(
                    None, None, f"*{event.anchor} is inside what it names", event.start_mark
                )
        return super().compose_node(parent, index)

    def compose_sequence_node(self, anchor: Any) -> SequenceNode:
        self._open.append(anchor or "")
        node = super().compose_sequence_node(anchor)
        self._open.pop()
        return node

    def compose_mapping_node(self, anchor: Any) -> MappingNode:
        self._open.append(anchor or "")
        node: MappingNode = super().compose_mapping_node(anchor)
        self._open.pop()
        seen: dict[Hashable, Node] = {}
        for key_node, _ in node.value:  # before merge keys (`<<`) are expanded: these give way to others
            key = (
                "<<"
                if key_node.tag == "tag:yaml.org,2002:merge"
                else self.construct_object(key_node, deep=True)
            )
            if not isinstance(key, Hashable):
                continue  # refused when it is constructed
            if key in seen:
                first, second = seen[key].start_mark.line + 1, key_node.start_mark.line + 1
                lines = f"lines {first} and {second}" if first != second else f"line {first}"
                raise _RepeatedKeyError(f"the key {key!r} is given twice in one mapping, {lines}")
            seen[key] = key_node
        return node


class _RepeatedKeyError(yaml.YAMLError):
    """A repeated key."""


def read_yaml(text: str, where: str) -> Any:
    """The value of the YAML `text`; None where it is empty.

    Raises `ConfigError` that names `where`, for invalid YAML, and for a repeated key (with both lines).
    """
    try:
        loader = _Loader(text)
        try:
            return loader.get_single_data()
        finally:
            loader.dispose()
    except _RepeatedKeyError as error:
        raise ConfigError(f"{where}: {error}; keep one") from error
    except RecursionError as error:
        raise ConfigError(f"{where} is not valid YAML: it is nested too deeply") from error
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        line = f"line {mark.line + 1}, column {mark.column + 1}: " if mark else ""
        hint = "; a value with ${NAME} goes in quotes inside [ ] and { }" if "${" in text else ""
        raise ConfigError(
            f"{where} is not valid YAML: {line}{error.problem or error.context}{hint}"
        ) from error
    except (yaml.YAMLError, ValueError) as error:  # such as a date of a 13th month
        raise ConfigError(f"{where} is not valid YAML: {' '.join(str(error).split())}") from error


def line_of(text: str, keys: Sequence[str]) -> int | None:
    """Line, from 1, of the value at these keys and positions, or of the nearest section around it; None for no mapping.

    `text` is YAML that `read_yaml` takes.
    """
    loader = _Loader(text)
    try:
        node = loader.get_single_node()
    finally:
        loader.dispose()
    line: int | None = None
    for key in keys:
        if isinstance(node, MappingNode):
            found = next((pair for pair in node.value if pair[0].value == key), None)
            if found is None:  # merged from elsewhere (`<<`), or given by default
                break
            line, node = found[0].start_mark.line + 1, found[1]
        elif isinstance(node, SequenceNode) and key.isdecimal() and int(key) < len(node.value):
            node = node.value[int(key)]
            line = node.start_mark.line + 1
        else:
            break
    return line


def read_value(text: str, where: str) -> Any:
    """The value of an override: YAML, or plain text if no YAML value begins so (`*.jsonl`).

    Raises `ConfigError` as `read_yaml` does, and where ` #` would make the rest a comment.
    """
    if text.strip().startswith(_INDICATORS):
        return text.strip()
    value = read_yaml(text, where)
    if "#" in text:
        tokens = [token for token in yaml.scan(text) if not isinstance(token, yaml.StreamEndToken)]
        end = max(token.end_mark.index for token in tokens)
        if (rest := text[end:].strip()).startswith("#"):
            raise ConfigError(
                f"{where}: {rest!r} would be a comment; put the value in quotes inside the argument"
            )
    return value


def read_json(text: str | bytes, where: str) -> Any:
    """The value that `text` holds.

    Raises `ValueError` for invalid JSON, a repeated key, nesting over `MAX_DEPTH`, and text with a lone surrogate,
    which could not be written again.
    """
    try:
        value = json.loads(text, object_pairs_hook=_unique)
        _check_writable(value, where)
        return value
    except _RepeatedJsonKeyError as error:
        line = _line_of_repeated_key(text.decode() if isinstance(text, bytes) else text)
        begins = "" if line is None else f", which begins in line {line}"
        raise ValueError(f"{where}: {error} in one object{begins}; keep one") from error
    except RecursionError as error:
        raise ValueError(f"{where}: it is nested too deeply") from error


def _check_writable(value: Any, where: str) -> None:
    level = [value]
    for _ in range(MAX_DEPTH):
        inner = []
        for node in level:
            if isinstance(node, str):
                node.encode()  # raises a `ValueError` for a lone surrogate
            elif isinstance(node, dict):
                inner += [*node, *node.values()]
            elif isinstance(node, list):
                inner += node
        if not inner:
            return
        level = inner
    raise ValueError(f"{where}: it is nested too deeply")


class _RepeatedJsonKeyError(ValueError):
    """A key given twice."""


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    tree = dict(pairs)
    if len(tree) < len(pairs):
        seen: set[str] = set()
        repeated = next(key for key, _ in pairs if key in seen or seen.add(key))  # type: ignore[func-returns-value]
        raise _RepeatedJsonKeyError(f"the key {repeated!r} is given twice")
    return tree


def _line_of_repeated_key(text: str) -> int | None:
    """Line in which the first object with a repeated key begins; None where it is nested too deeply to find.

    Python's C decoder does not give the line, and reads deeper nesting than its Python decoder.
    """
    starts: list[int] = []

    def parse(state: tuple[str, int], *arguments: Any) -> Any:
        starts.append(state[1])
        parsed = JSONObject(state, *arguments)
        starts.pop()
        return parsed

    decoder: Any = json.JSONDecoder(object_pairs_hook=_unique)
    decoder.parse_object = parse
    decoder.scan_once = py_make_scanner(decoder)
    try:
        with contextlib.suppress(_RepeatedJsonKeyError):
            decoder.decode(text)
    except RecursionError:
        return None
    return text.count("\n", 0, starts[-1]) + 1
