"""What every part of the configuration tree is."""

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field


class Section(BaseModel):
    """A frozen part of the tree; the docstring under a field is its description."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True, allow_inf_nan=False)


Count = Annotated[int, Field(ge=1, lt=2**31)]
"""Of things: a whole number that fits whatever counts them."""
CountOrZero = Annotated[int, Field(ge=0, lt=2**31)]
"""A count that may be 0."""
Bytes = Annotated[int, Field(gt=0, lt=2**62)]
"""Of files and texts, and what may be as many: tokens of a corpus."""
Seed = Annotated[int, Field(ge=0, lt=2**32)]
"""Of random numbers, as all that are seeded take it."""
Share = Annotated[float, Field(gt=0, le=1e9, allow_inf_nan=False)]
"""Weight of one among several."""
