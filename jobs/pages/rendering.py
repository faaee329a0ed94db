"""Templates -> pages. Every text is escaped, and what would hide or reorder other text is shown as `\\uXXXX`."""

import functools
from typing import Any

import jinja2
from markupsafe import Markup

from pipeline.printable import printable
from pipeline.redaction import redacted

GENERATOR = '<meta name="generator" content="sllm">'
"""By this element a page of ours is known."""


def render(template: str, **context: Any) -> bytes:
    """The page that `templates/<template>` makes of `context`, in UTF-8."""
    return _environment().get_template(template).render(context).encode()


def count_of(number: int, noun: str) -> str:
    """`1 sentence`, `2,000 sentences`."""
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


@functools.cache
def _environment() -> jinja2.Environment:
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("jobs.pages"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        finalize=_shown,
    )
    environment.filters |= {"count_of": count_of, "redacted": redacted}
    return environment


def _shown(value: object) -> object:
    return printable(value) if isinstance(value, str) and not isinstance(value, Markup) else value
