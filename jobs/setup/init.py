"""`sllm init`: a commented configuration for one's own files, by three questions or by flags."""

import glob
import json
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import typer
import yaml

from jobs.runner.console import say
from jobs.runner.presets import preset_or_file
from jobs.setup.commented import commented_yaml
from pipeline.config import DataConfig, load_config
from pipeline.config.paths import LOCAL_PATH, is_url
from pipeline.errors import ConfigError
from pipeline.redaction import redacted

PRESETS = {"cpu": "demo", "gpu": "gpu"}
"""The preset that each answer to the question about the machine begins with."""
_FIRST_BYTES = 2**20
_QUESTIONS = (
    "Which text? Files, folders, globs or URLs, separated by blanks",
    "Where do the results go? A folder or a URL",
    "Which machine? cpu: minutes on two cores; gpu: about an hour on one GPU",
)


def command(
    file: Annotated[
        str, typer.Argument(metavar="FILE", help="The configuration that is written."), LOCAL_PATH
    ] = "sllm.yaml",
    inputs: Annotated[
        list[str] | None, typer.Option("--inputs", metavar="PATH", help="Text to read; may be given again.")
    ] = None,
    output: Annotated[
        str | None, typer.Option("--output", metavar="FOLDER", help="Where results go; by default runs/NAME.")
    ] = None,
    size: Annotated[str | None, typer.Option("--size", metavar="cpu|gpu", help="Which machine; cpu.")] = None,
    force: Annotated[bool, typer.Option("--force", help="Replace the file.")] = False,
) -> None:
    """Arguments of `sllm init`.

    Raises `ConfigError` where the file is there already, and where there is no text and nobody to ask.
    """
    if Path(file).exists() and not force:
        raise ConfigError(f"{file} is there already: name another file, or replace it with --force")
    asks = inputs is None and is_terminal()
    if inputs is None:
        if not asks:
            raise ConfigError("name your text with --inputs PATH; in a terminal, `sllm init` asks for it")
        inputs = shlex.split(typer.prompt(_QUESTIONS[0]))
    default = f"runs/{_name_of(inputs)}"
    if output is None:
        output = typer.prompt(_QUESTIONS[1], default=default) if asks else default
    if size is None:
        size = typer.prompt(_QUESTIONS[2], default="cpu") if asks else "cpu"
    text = configuration(inputs, str(output), str(size))
    Path(file).write_text(text, encoding="utf-8")
    try:
        load_config(file, [])
    except ConfigError:
        Path(file).unlink()
        raise
    shown = shlex.quote(file)
    say(f"wrote {file}; what comes next:")
    say(f"  sllm doctor {shown}   # can such jobs run here?")
    say(f"  sllm plan {shown}     # what they cost: memory, FLOPs, time")
    say(f"  sllm run {shown}      # shards, models, figures, text")


def configuration(inputs: Sequence[str], output: str, size: str = "cpu") -> str:
    """The YAML text of a configuration that reads `inputs` and writes to `output`, with comments.

    `size` is one of `PRESETS`. Raises `ConfigError` for another, and `CorpusError` where an input cannot be read.
    """
    if size not in PRESETS:
        raise ConfigError(f"--size {size}: known are {', '.join(PRESETS)}")
    # Imported late: these read Parquet and compressed files.
    from pipeline.corpus import find_sources

    data = DataConfig.model_validate({"inputs": list(inputs)})
    sources = find_sources(data, lambda line: say(line))
    tree: dict[str, Any] = yaml.safe_load(Path(preset_or_file(PRESETS[size])).read_text(encoding="utf-8"))
    tree["output"] = output
    tree["data"] = {"inputs": list(inputs)} | {
        key: value for key, value in tree["data"].items() if key != "inputs"
    }
    if size == "cpu":
        tree["data"]["max_bytes"] = tree["data"].pop("max_bytes")  # last: it is the first to be changed
    rows = next((source for source in sources if source.format == "jsonl"), None)
    field = _text_field(rows.path) if rows is not None else None
    if field is not None:
        tree["data"]["text_field"] = field
        say(f"note: rows have no field `text`; data.text_field is {field}")
    named = " ".join(shlex.quote(redacted(one)) for one in inputs)
    head = [
        f"# sllm: {len(sources):,} file{'s' if len(sources) > 1 else ''} of {named}".replace("\n", " "),
        f"# Sizes of models and steps are those of the preset {PRESETS[size]}. `sllm config KEY` explains each, also",
        "# those that are not here. A key can be changed for one run: `sllm run FILE lm.train.steps=100`.",
    ]
    return "\n".join(head) + "\n" + commented_yaml(tree)


def _text_field(path: str) -> str | None:
    """The field of the first row of JSON lines that holds the longest text; None where it is `text`."""
    from pipeline.corpus.opening.compression import compression_of
    from pipeline.corpus.opening.streams import first_bytes, text_chunks

    chunks = text_chunks(path, compression_of(first_bytes(path, _FIRST_BYTES)))
    first = next(chunks, b"").partition(b"\n")[0]
    try:
        row = json.loads(first)
    except ValueError:
        return None
    if not isinstance(row, dict) or isinstance(row.get(DataConfig().text_field), str):
        return None
    texts = {name: value for name, value in row.items() if isinstance(value, str)}
    return max(texts, key=lambda name: len(texts[name]), default=None)


def _name_of(inputs: Sequence[str]) -> str:
    """A name for the results: that of the first input without suffixes."""
    first = inputs[0].rstrip("/") if inputs else ""
    if glob.has_magic(first) or not first:
        return "mine"
    name = (first.rpartition("/")[2] if is_url(first) else Path(first).name).partition(".")[0]
    return "".join(one if one.isalnum() or one in "-_" else "-" for one in name) or "mine"


def is_terminal() -> bool:
    """Whether someone can answer."""
    return sys.stdin.isatty()
