"""Each path of the configuration and of the command line takes a URL, or refuses it on purpose."""

import typing
from typing import Any

import pytest
import typer
from typer.testing import CliRunner

from jobs.cli import app
from jobs.verbs import VERBS
from pipeline.config import Config, Section, load_config
from pipeline.config.paths import LOCAL_PATH, PATH
from pipeline.config.section import alternatives
from pipeline.errors import ConfigError

TAKEN = {
    "output", "shards", "data.inputs", "data.dev_inputs", "tokenizer.path", "trunk.path", "models.lm", "models.vae",
    "models.sllm", "segmenter.options", "segmenter_training.gold.path", "segmenter_training.raw.path",
    "segmenter_training.start_from", "compare.variants.preset", "tracking.uri",
}  # fmt: skip
REFUSED = {"stream.cache", "deepspeed.nvme_path"}
"""Folders of each machine."""
READ_AT_ONCE = {"deepspeed.config"}
"""The file is read when the configuration is."""
MADE = {
    "segmenter.options": "segmenter.options.weights={url}",
    "segmenter_training.gold.path": "segmenter_training.gold=[{{path: '{url}'}}]",
    "segmenter_training.raw.path": "segmenter_training.raw=[{{path: '{url}'}}]",
    "compare.variants.preset": "compare.variants.a={{title: A, stages: {{train-lm: 1}}, preset: '{url}'}}",
}
"""The override where it is not `KEY=URL`."""


def _path_keys(section: type[Section], prefix: str = "") -> Any:
    for name, field in section.model_fields.items():
        if "AfterValidator" in repr(field):
            yield f"{prefix}{name}"
        for kind in (part for one in alternatives(field.annotation) for part in (one, *typing.get_args(one))):
            if isinstance(kind, type) and issubclass(kind, Section):
                yield from _path_keys(kind, f"{prefix}{name}.")


def test_each_path_of_the_configuration_is_decided_here() -> None:
    assert set(_path_keys(Config)) == TAKEN | REFUSED | READ_AT_ONCE


@pytest.mark.parametrize("key", sorted(TAKEN))
def test_a_url_is_taken(key: str) -> None:
    override = MADE.get(key, f"{key}={{url}}").format(url="s3://bucket/a/b")
    assert "s3://bucket/a/b" in load_config(None, [override]).model_dump_json()


@pytest.mark.parametrize("key", sorted(REFUSED))
def test_a_url_is_refused_for_what_each_machine_has_of_its_own(key: str) -> None:
    with pytest.raises(ConfigError, match=f"{key}.*is a URL: name a folder"):
        load_config(None, [f"{key}=s3://bucket/x"])


def test_a_file_at_a_url_is_read_with_the_configuration() -> None:
    import fsspec

    system = fsspec.filesystem("memory")
    system.pipe_file("/urls/ds.json", b'{"wall_clock_breakdown": true}')
    system.pipe_file("/urls/run.yaml", b"deepspeed: {config: 'memory://urls/ds.json'}\nprecision: bf16")
    config = load_config("memory://urls/run.yaml")
    assert config.deepspeed.config == {"wall_clock_breakdown": True} and config.precision == "bf16"
    for given, overrides in (
        ("memory://urls/no.yaml", []),
        (None, ["deepspeed.config=memory://urls/no.json"]),
    ):
        with pytest.raises(ConfigError, match=r"there is no file memory://urls/no\."):
            load_config(given, overrides)


def _path_arguments() -> set[tuple[str, str, bool]]:
    """Verb, parameter, and whether it takes a URL."""
    found = set()
    for verb in VERBS.values():
        if not verb.has_own_arguments:
            continue
        command = getattr(verb.load(), verb.function)
        functions = {verb.name: command}
        if isinstance(command, typer.Typer):
            functions = {
                f"{verb.name} {one.callback.__name__}": one.callback
                for one in command.registered_commands
                if one.callback is not None
            }
        for name, function in functions.items():
            for parameter, hint in typing.get_type_hints(function, include_extras=True).items():
                for annotation in getattr(hint, "__metadata__", ()):
                    if annotation in (PATH, LOCAL_PATH):
                        found.add((name, parameter, annotation is PATH))
    return found


def test_each_path_of_the_command_line_is_decided_here() -> None:
    assert _path_arguments() >= {
        ("export", "checkpoint", True), ("lineage", "path", True), ("inspect", "shards", True),
        ("inspect", "plot", True), ("segment", "source", True), ("segment", "output", True), ("segment", "html", True),
        ("bench prepare", "source", False), ("bench prepare", "tokenizer", False), ("bench stream", "shards", False),
        ("bench segmenters", "data", False), ("bench segmenters", "gold", False), ("init", "file", False),
    }  # fmt: skip
    assert all(
        name.startswith("bench ") or name == "init"
        for name, _, takes_url in _path_arguments()
        if not takes_url
    )


@pytest.mark.parametrize(
    "arguments",
    [("stream", "s3://b/shards"), ("prepare", "s3://b/a", "gpt2"), ("segmenters", "s3://b/data")],
)
def test_bench_measures_what_is_on_this_machine(arguments: tuple[str, ...]) -> None:
    done = CliRunner().invoke(app, ["bench", *arguments])
    assert done.exit_code == 2 and "is a URL: name a folder or file of this machine" in done.stderr


def test_segment_reads_and_writes_urls() -> None:
    import fsspec

    system = fsspec.filesystem("memory")
    system.pipe_file("/segment/in.jsonl", b'{"id": 1, "text": "One. Two."}\n')
    run = CliRunner().invoke
    done = run(app, ["segment", "memory://segment/in.jsonl", "--output", "memory://segment/out.jsonl"])
    assert done.exit_code == 0, done.stderr
    assert system.cat_file("/segment/out.jsonl") == b'{"id": 1, "ends": [5, 9]}\n'
    page = ["--compare", "punctuation_v1,reference_v1", "--html", "memory://segment/page.html"]
    done = run(app, ["segment", "memory://segment/in.jsonl", *page])
    assert done.exit_code == 0 and b"<!doctype html>" in system.cat_file("/segment/page.html"), done.stderr
    same = run(app, ["segment", "memory://segment/in.jsonl", "--output", "memory://segment/in.jsonl"])
    assert same.exit_code == 2 and "is the input" in same.stderr


def test_an_output_in_memory_is_refused_since_it_ends_with_the_command() -> None:
    done = CliRunner().invoke(app, ["train-lm", "output=memory://x", "shards=y"])
    assert done.exit_code == 2 and "is deleted when the command ends" in done.stderr
