"""A rich console that sends a terminal no control sequences but rich's own."""

from collections.abc import Iterable
from typing import Any

from rich.console import Console, ConsoleOptions, RenderableType
from rich.segment import Segment
from rich.text import Text

from pipeline.printable import printable


class PrintableConsole(Console):
    """Text, wherever it comes from, passes `printable` as it is rendered.

    `[...]` and `:name:` in it are text too, unless `markup` or `emoji` is given: names of files and fields hold them.
    """

    def __init__(self, *, markup: bool = False, emoji: bool = False, **options: Any) -> None:
        super().__init__(markup=markup, emoji=emoji, **options)

    def render_str(self, text: str, **options: Any) -> Text:
        """As `Console.render_str`; columns are as wide as what is shown."""
        return super().render_str(printable(text), **options)

    def render(self, renderable: RenderableType, options: ConsoleOptions | None = None) -> Iterable[Segment]:
        """As `Console.render`."""
        for segment in super().render(renderable, options):
            yield segment if segment.control else Segment(printable(segment.text), segment.style)
