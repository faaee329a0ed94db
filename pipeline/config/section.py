"""What every part of the configuration tree is."""

from pydantic import BaseModel, ConfigDict


class Section(BaseModel):
    """A frozen part of the tree; the docstring under a field is its description."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)
