"""What a shell offers after Tab: presets and configuration files, keys and their values, segmenters."""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import typer

from jobs.runner import presets

Offers = list[tuple[str, str]]
"""Words, and for each a short help that zsh and fish show."""
_WORD = re.compile(r"`([\w.-]+)`")
_PLAIN = re.compile(r"[\w.+-]+")


def complete_config(ctx: typer.Context, incomplete: str) -> Offers:
    """Presets, YAML files of the working folder, and keys."""
    found = [(name, "preset") for name in presets.names() if name.startswith(incomplete)]
    here = sorted(path.name for pattern in ("[!.]*.yaml", "[!.]*.yml") for path in Path().glob(pattern))
    found += [(name, "file") for name in here if name.startswith(incomplete)]
    return found or complete_override(ctx, incomplete)


def complete_override(ctx: typer.Context, incomplete: str) -> Offers:
    """Keys as KEY=DEFAULT, or the values of a key.

    bash takes `KEY=VALUE` for the three words KEY, = and VALUE, of which click drops an `=` at the end.
    """
    before = [str(word) for word in (ctx.params.get("config"), *(ctx.params.get("overrides") or ())) if word]
    if before and not incomplete and (values := _values(before[-1], "")):
        return values
    if len(before) > 1 and before[-1] == "=":
        return _values(before[-2], incomplete)
    key, separator, value = incomplete.partition("=")
    if separator:
        return [(f"{key}={offer}", text) for offer, text in _values(key, value)]
    return list(_keys(incomplete))


def complete_key(incomplete: str) -> Offers:
    """Sections and keys of the configuration."""
    from pipeline.config.documentation import all_keys

    return [(one.key, _short(one.description)) for one in all_keys() if one.key.startswith(incomplete)]


def complete_segmenter(incomplete: str) -> list[str]:
    """Names of segmenters; in a list with commas, of its last one."""
    import segmenters

    before, comma, last = incomplete.rpartition(",")
    return [f"{before}{comma}{name}" for name in sorted(segmenters.names()) if name.startswith(last)]


def _keys(incomplete: str) -> Iterator[tuple[str, str]]:
    """Top-level names while none is complete, then every key that begins so."""
    from pipeline.config.documentation import all_keys

    for one in all_keys():
        depth = one.key.count(".")
        if not one.key.startswith(incomplete) or (depth and not incomplete):
            continue
        if one.section is None:
            yield f"{one.key}={_plain(one.default)}", _short(one.description)
        elif not incomplete:
            yield f"{one.key}.", _short(one.description)


def _values(key: str, incomplete: str) -> Offers:
    """The values that a key may have, as far as they can be listed."""
    if key == "segmenter.name":
        return [(name, "") for name in complete_segmenter(incomplete)]
    from pipeline.config.documentation import all_keys

    one = next((one for one in all_keys() if one.key == key), None)
    if one is None:
        return []
    words = ["true", "false"] if one.kind == "true or false" else _WORD.findall(one.kind)
    offered = [word for word in words if word.startswith(incomplete)]
    return [(word, "default" if _plain(one.default) == word else "") for word in offered]


def _plain(value: Any) -> str:
    """The value, where a shell needs no quotes for it."""
    text = value if isinstance(value, str) else json.dumps(value)
    return text if _PLAIN.fullmatch(text) else ""


def _short(text: str) -> str:
    return " ".join(text.partition(". ")[0].split()).replace("`", "")[:80]
