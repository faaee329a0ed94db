"""The layout of text that may be JSON: one document per line, which is read, or a layout that is not read."""

import json
from collections.abc import Mapping, Sequence
from typing import Literal

JsonLayout = Literal["lines", "array", "spread", "joined", "unsure", "none"]
"""`lines`: one object per line, in the part that was read; `spread`: a value over several lines; `joined`: several
objects on a line; `unsure`: most lines are objects, or the end of the first was not read; `none`: no JSON."""
LAYOUT_NAMES = {
    "array": "one JSON array",
    "spread": "JSON over several lines",
    "joined": "several JSON objects per line",
}


def json_layout(text: str, is_whole: bool) -> JsonLayout:
    """Layout of the JSON at the start of a file; `is_whole`: whether `text` is the whole file."""
    text = without_separators(text).lstrip()
    if text[:1] not in ("{", "["):
        return "none"
    state, _, rest = _parsed(text)
    if text[0] == "[":
        holds_documents = text[1:].lstrip()[:1] in ("{", '"', "[")
        if state == "whole":
            return "array" if holds_documents and not rest.strip() else "none"
        return "array" if state == "open" and holds_documents and (not is_whole or "\n" in text) else "none"
    if text == "{" or text[1:].lstrip()[:1] not in ('"', "}"):
        return "none"
    first, _, after = text.partition("\n")
    line_state = _parsed(first)
    if line_state[0] == "whole":
        share = share_of_objects(text, is_whole)
        starts = [line.lstrip().startswith('{"') for line in text.split("\n") if line.strip()]
        if line_state[2].strip()[:1] in ("{", ",") and share <= 0.5 < sum(starts) / len(starts):
            return "joined"
        return "lines" if share == 1 else "unsure" if share > 0.5 else "none"
    if line_state[0] == "open" and after:
        return "spread" if state in ("whole", "open") else "none"
    return "unsure" if line_state[0] == "open" and not is_whole else "none"


def without_separators(text: str) -> str:
    """A JSON text sequence (RFC 7464) without the separators before its values; other text as it is."""
    if not text.lstrip("\ufeff \t\r\n").startswith(("\x1e{", "\x1e[")):
        return text
    return text.replace("\n\x1e", "\n").lstrip("\ufeff\x1e \t\r\n")


def has_text(text: str, field: str) -> bool:
    """Whether the object on the first line has the field, or the object in which it is nested."""
    row = _parsed(text.lstrip().split("\n", 1)[0])[1]
    return isinstance(row, dict) and (field in row or field.split(".")[0] in row)


def share_of_objects(text: str, is_whole: bool) -> float:
    """Share of the lines that are a JSON object, among those that are not blank."""
    values = [_parsed(line) for line in complete_lines(text, is_whole) if line.strip()]
    objects = [isinstance(value, dict) and not rest.strip() for _, value, rest in values]
    return sum(objects) / max(1, len(objects))


def complete_lines(text: str, is_whole: bool) -> list[str]:
    """The lines, without byte order marks of joined files, and without the last line if it may continue."""
    lines = [line.lstrip("\ufeff") for line in text.split("\n")]
    return lines if is_whole else lines[:-1]


def array_in_object(text: str, text_field: str) -> list[str] | None:
    """The keys to an array of documents in the only object of the file."""
    _, value, rest = _parsed(text.strip())
    found = None if rest or not isinstance(value, dict) else documents_within(value, text_field)
    return found and found[0]


def documents_within(
    row: Mapping[str, object], text_field: str, depth: int = 3
) -> tuple[list[str], int] | None:
    """The keys from an object without the field to an array of objects with it, and the length of the array."""
    if text_field in row:
        return None
    for key, value in row.items():
        if isinstance(value, list):
            count = sum(isinstance(one, dict) and text_field in one for one in value)
            if count:
                return [key], count
        elif (
            isinstance(value, dict)
            and depth > 1
            and (inner := documents_within(value, text_field, depth - 1))
        ):
            return [key, *inner[0]], inner[1]
    return None


def array_remedy(path: str, keys: Sequence[str]) -> str:
    """Remedy for a file whose only object has its documents in the array at these keys."""
    name = path.rpartition("/")[2]
    steps = "".join(f"[{json.dumps(key)}]" for key in keys)
    return f"write one document per line: jq -c '.{steps}[]' {name} > {name}.jsonl"


def layout_remedy(path: str, layout: JsonLayout) -> str:
    """Remedy for a file with this layout."""
    if layout == "joined":
        return "write one document per line, for example with jq -c . after taking off commas between them"
    if layout in ("lines", "unsure"):
        return "set data.format=jsonl"
    name = path.rpartition("/")[2]
    return f"write one document per line: jq -c '{'.[]' if layout == 'array' else '.'}' {name} > {name}.jsonl"


_LITERALS = ("true", "false", "null", "-")
_DECODER = json.JSONDecoder(parse_int=str, parse_float=str)


def _parsed(text: str) -> tuple[Literal["whole", "open", "broken"], object, str]:
    """The JSON value at the start of `text`, and the text after it; `open`: the text ends inside the value."""
    try:
        value, end = _DECODER.raw_decode(text)
        return "whole", value, text[end:]
    except json.JSONDecodeError as error:
        rest = text[error.pos :].strip()
        is_open = (
            error.msg.startswith("Unterminated string")
            or not rest
            or any(literal.startswith(rest) for literal in _LITERALS)
            or (error.msg.startswith("Invalid \\u") and len(rest) < 6)
        )
        return "open" if is_open else "broken", None, ""
    except (RecursionError, ValueError):
        return "broken", None, ""
