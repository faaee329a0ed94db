"""What the table of verbs says of one: its names, its help, what it reads and writes, and the file that runs it."""

import dataclasses
import importlib
from types import ModuleType
from typing import Literal


@dataclasses.dataclass(frozen=True)
class RunStep:
    """A job as a step of `sllm run`."""

    folder: str
    """Folder of its output, below that of the run. For a model it is also its key in the section `models`."""
    kind: Literal["shards", "model", "report"]
    """Kind of its output."""
    by_default: bool = True
    """Whether it runs if `run.jobs` is not set."""
    record_folder: str = ""
    """Folder of its record, below its output."""


@dataclasses.dataclass(frozen=True)
class TextOption:
    """An option that sets one key of the configuration to the given text."""

    name: str
    key: str
    help: str


@dataclasses.dataclass(frozen=True)
class Verb:
    """One verb of the console."""

    name: str
    help: str
    """One line."""
    reads: str
    writes: str
    """Both in Markdown, as the README has them."""
    examples: tuple[str, ...]
    """Commands that work, each begins with `sllm VERB`."""
    group: Literal["Jobs", "Look", "Submitted jobs"] = "Jobs"
    """Jobs make something that `sllm lineage` knows; the others look, or are about submitted jobs."""
    has_own_arguments: bool = False
    """Whether its file has a function `function`. If not, it is a job: it takes CONFIG and overrides, and can be
    submitted to a cluster."""
    step: RunStep | None = None
    """None: not a part of `sllm run`."""
    model_key: str | None = None
    """Key of the configuration that the first argument sets where it is a folder."""
    text_option: TextOption | None = None
    file: str | None = None
    """Module below `jobs`; none: the verb's name."""
    function: str = "command"
    """Its function in that module, where it has arguments of its own; verbs of one module differ here."""

    @property
    def module_name(self) -> str:
        """The module that runs it."""
        return f"jobs.{self.file or self.name.replace('-', '_')}"

    @property
    def can_be_submitted(self) -> bool:
        """Whether it takes `--submit`."""
        return not self.has_own_arguments

    def load(self) -> ModuleType:
        """The module that runs it, imported now."""
        return importlib.import_module(self.module_name)
