"""The files of a run in MLflow: its configuration and environment, and at the end what shows its result."""

import functools
import json
import logging
import platform
from collections.abc import Iterator, Mapping
from importlib import metadata
from typing import Any

import yaml

from infra.storage import Folder, StorageError
from jobs.runner.run_page.model_card import model_card
from jobs.runner.run_page.plots import sentence_lengths_plot
from pipeline.config.paths import is_url
from pipeline.errors import first_line
from pipeline.lineage import JobRecord
from pipeline.redaction import redacted

log = logging.getLogger("sllm")

CONFIG_FILE, ENVIRONMENT_FILE = "config.yaml", "environment.txt"
_MOST_BYTES = 2**20
"""A larger file is not sent: it can be read in the output folder."""
_SHARDS_DRAWN = 8


def start_files(tree: Mapping[str, Any]) -> dict[str, str]:
    """Name and content of the files that are known when a job starts; `tree` is its configuration without secrets."""
    shown = yaml.safe_dump(dict(tree), sort_keys=False, allow_unicode=True)
    return {CONFIG_FILE: shown, ENVIRONMENT_FILE: environment()}


@functools.cache
def environment() -> str:
    """The interpreter, the platform, and the installed packages with their versions, as `pip freeze` has them."""
    packages = {
        one.name.lower(): f"{one.name}=={one.version}" for one in metadata.distributions() if one.name
    }
    header = f"# Python {platform.python_version()} on {platform.platform()}\n"
    return header + "".join(f"{packages[name]}\n" for name in sorted(packages))


def result_files(record: JobRecord, output: str) -> dict[str, str]:
    """Name and content of the files that show the result of a job that wrote to `output`; what cannot be read is left
    out."""
    found: dict[str, str] = {}
    try:
        for name, text in _result_files(record, output):
            found[name] = text
    except Exception as error:  # whatever goes wrong with a picture, the job has finished
        log.warning(f"warning: some files of {output} are not shown in MLflow: {first_line(error)}")
    return found


def _result_files(record: JobRecord, output: str) -> Iterator[tuple[str, str]]:
    folder = Folder(output)
    if record.output.kind == "model":
        written = _text(folder, "MODEL_CARD.md")
        yield "model_card.md", redacted(written) if written is not None else model_card(record)
    elif record.output.kind == "report":
        for name in record.files:
            if name.endswith((".json", ".md", ".svg")) and (text := _text(folder, name)) is not None:
                yield f"report/{name}", redacted(text)
                if name == "generated.json":
                    yield "samples/generated.txt", redacted(_generated(text))
    elif record.output.kind == "shards" and not is_url(output):
        yield "plots/sentence_lengths.svg", sentence_lengths_plot(output, _SHARDS_DRAWN)


def _text(folder: Folder, name: str) -> str | None:
    try:
        content = folder.read(name)
    except StorageError:
        return None
    return None if content is None or len(content) > _MOST_BYTES else content.decode(errors="replace")


def _generated(text: str) -> str:
    kept = json.loads(text)
    return f"{kept['prompt']}{''.join(kept['sentences'])}\n"
