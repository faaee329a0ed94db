"""The bytes of a figure."""

import io
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def closed_as(figure: "Figure", form: str) -> bytes:
    """The figure as `form` (`png`, `svg`); it is closed, so that pyplot does not keep it."""
    from matplotlib import pyplot

    drawn = io.BytesIO()
    figure.savefig(drawn, format=form)
    pyplot.close(figure)
    return drawn.getvalue()
