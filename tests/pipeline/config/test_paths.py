import inspect
import re
import typing
from pathlib import Path

import pytest
import typer
from hypothesis import given
from hypothesis import strategies as st

from jobs.cli.job_command import job_command
from jobs.verbs import VERBS
from pipeline.config import Config, Section, load_config, override
from pipeline.config.paths import LOCAL_PATH, PATH, PathError, machine_path, resolved_path
from pipeline.config.section import alternatives
from pipeline.errors import ConfigError


@pytest.fixture(autouse=True)
def home(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setenv("DATA", "/data")
    monkeypatch.delenv("UNSET", raising=False)
    monkeypatch.chdir(tmp_path)
    return str(tmp_path / "home")


def test_what_people_write_means_what_they_expect(home):
    for written, meant in {
        "~": home,
        "~/runs/x": f"{home}/runs/x",
        "${DATA}/a": "/data/a",
        "$DATA/a": "/data/a",
        "${HOME}/${DATA}": f"{home}//data",
        "runs/x": "runs/x",
        "./~/x": "./~/x",
        "a~b/c$1": "a~b/c$1",
        "s3://bucket/~/x": "s3://bucket/~/x",
        "s3://${DATA}/x": "s3:///data/x",
        "http://host/a?$filter=$DATA": "http://host/a?$filter=$DATA",
        "file:///data/x": "/data/x",
        "org/model": "org/model",
    }.items():
        assert resolved_path(written) == meant
    assert resolved_path("a", "/base") == "/base/a" and resolved_path("/a", "/base") == "/a"


@pytest.mark.parametrize(
    ("written", "message"),
    [
        ("${UNSET}/x", "UNSET is not set"),
        ("$UNSET/x", "UNSET is not set"),
        ("${}", "names no environment variable"),
        ("${DATA:-x}", "names no environment variable"),
        ("", "empty"),
        ("  ", "empty"),
        ("~no_such_user/x", "no user 'no_such_user'"),
        ("s3:/bucket/x", "did you mean s3://bucket/x"),
        ("S3:bucket", "did you mean s3://bucket"),
        ("gs//bucket/x", "did you mean gs://bucket/x"),
        ("file://relative/x", "names a host"),
    ],
)
def test_what_cannot_be_meant_is_refused(written, message):
    with pytest.raises(PathError, match=re.escape(message)):
        resolved_path(written)
    with pytest.raises(ConfigError, match=re.escape(message)):
        load_config(None, [f"output={written!r}"])


def test_a_file_with_a_dollar_in_its_name_can_be_named():
    Path("price$UNSET.txt").touch()
    assert resolved_path("price$UNSET.txt") == "price$UNSET.txt"


def test_a_url_is_no_folder_of_each_machine():
    with pytest.raises(PathError, match="is a URL"):
        machine_path("s3://bucket/model")
    for key in ("stream.cache", "deepspeed.nvme_path"):
        with pytest.raises(ConfigError, match=f"{key}.*is a URL"):
            load_config(None, [f"{key}=s3://bucket/x"])


@given(st.text(st.sampled_from("a/.~${}:s3X_ -"), max_size=12))
def test_resolving_twice_changes_nothing(written):
    try:
        once = resolved_path(written)
    except PathError:
        return
    assert resolved_path(once) == once


PATHS = {
    "output", "shards", "data.inputs", "data.dev_inputs", "tokenizer.path", "stream.cache", "trunk.path",
    "models.lm", "models.vae", "models.sllm", "deepspeed.nvme_path", "tracking.uri",
    "segmenter_training.start_from",
}  # fmt: skip


@pytest.mark.parametrize("key", sorted(PATHS))
def test_each_path_of_the_configuration_is_resolved(key, home):
    value: object = load_config(None, [f"{key}=${{DATA}}/x"])
    for name in key.split("."):
        value = getattr(value, name)
    assert value in ("/data/x", ("/data/x",))


def test_paths_in_nested_sections(home):
    config = load_config(
        None,
        [
            "data.inputs=['~/*.jsonl', 'datasets:~/saved', 'python-docs:', 'datasets:org/name']",
            "segmenter.options={weights: ~/w, pattern: '~'}",
            "tracking.uri=sqlite:///~/m.db",
            "segmenter_training.gold=[{path: ~/gold.jsonl}]",
            "deepspeed.config={aio: {nvme_path: ~/nvme}}",
            "shards=['~/a', 's3://b/c']",
        ],
    )
    assert config.data.inputs == (
        f"{home}/*.jsonl",
        f"datasets:{home}/saved",
        "python-docs:",
        "datasets:org/name",
    )
    assert config.segmenter.options == {"weights": f"{home}/w", "pattern": "~"}
    assert config.tracking.uri == f"sqlite:///{home}/m.db"
    assert config.segmenter_training.gold[0].path == f"{home}/gold.jsonl"
    assert config.deepspeed.config == {"aio": {"nvme_path": f"{home}/nvme"}}
    assert config.shards == (f"{home}/a", "s3://b/c")
    assert override(config, {"trunk.path": "~/m"}).trunk.path == f"{home}/m"


def test_a_configuration_and_a_deepspeed_file_in_the_home_folder(home):
    Path(home).mkdir()
    Path(home, "c.yaml").write_text("output: ~/runs/x\ndeepspeed: {config: ~/ds.json}\n")
    Path(home, "ds.json").write_text('{"a": 1}')
    config = load_config("~/c.yaml")
    assert config.output == f"{home}/runs/x" and config.deepspeed.config == {"a": 1}


def _fields(section: type[Section], prefix: str = ""):
    for name, field in section.model_fields.items():
        yield f"{prefix}{name}", field
        for kind in (part for one in alternatives(field.annotation) for part in (one, *typing.get_args(one))):
            if isinstance(kind, type) and issubclass(kind, Section):
                yield from _fields(kind, f"{prefix}{name}.")


def test_each_field_that_looks_like_a_path_is_one():
    """A new field whose name or description names a path must have one of the types of `paths.py`."""
    looks = re.compile(r"\b([Ff]olders?|[Ff]iles?|URLs?)\b")
    no_paths = {
        "data.format", "data.id_field", "data.delimiter", "compare.variants", "segmenter_training.held_out_fraction",
        "run.jobs", "segmenter_training.weight",
    }  # fmt: skip
    found = {
        key
        for key, field in _fields(Config)
        if (looks.search(field.description or "") or re.search(r"path|file|folder|uri|cache$", key))
        and "str" in repr(field.annotation)
    }
    typed = {key for key, field in _fields(Config) if "AfterValidator" in repr(field)}
    assert found - no_paths <= typed
    assert typed >= PATHS and len(found & PATHS) > 6


def test_each_argument_of_the_console_that_looks_like_a_path_is_one():
    own = [getattr(verb.load(), verb.function) for verb in VERBS.values() if verb.has_own_arguments]
    groups = [command for command in own if isinstance(command, typer.Typer)]
    commands = {command for command in own if command not in groups}
    commands |= {one.callback for group in groups for one in group.registered_commands}
    commands |= {job_command(verb) for verb in VERBS.values() if verb.can_be_submitted}
    looks = re.compile(r"\b([Ff]olders?|[Ff]iles?|IN|PAGE|checkpoint)\b")
    seen = 0
    for command in commands:
        for name, hint in typing.get_type_hints(inspect.unwrap(command), include_extras=True).items():
            annotations = getattr(hint, "__metadata__", ())
            message = " ".join(
                f"{getattr(annotation, 'help', '')} {getattr(annotation, 'metavar', '')}"
                for annotation in annotations
            )
            if name in ("config", "overrides", "segmenter", "key", "return") or not looks.search(message):
                continue
            is_path = PATH in annotations or LOCAL_PATH in annotations
            seen += is_path
            assert is_path or hint.__origin__ is bool or name in ("compare", "samples"), (
                command,
                name,
            )
    assert seen >= 9


def test_an_absolute_path_with_a_slash_too_few_is_refused(tmp_path, monkeypatch):
    """`sqlite:///tmp/m.db` is the file `tmp/m.db` of the working folder."""
    monkeypatch.chdir(tmp_path)
    short = str(tmp_path).removeprefix("/")
    with pytest.raises(ConfigError, match=f"an absolute path is sqlite:///{tmp_path}/m.db"):
        load_config(None, [f"tracking.uri=sqlite:///{short}/m.db"])
    for kept in (
        f"sqlite:///{tmp_path}/m.db",
        "sqlite:///m.db",
        "sqlite:///runs/m.db",
        "sqlite:///new/deep/m.db",
    ):
        assert load_config(None, [f"tracking.uri={kept}"]).tracking.uri == kept
