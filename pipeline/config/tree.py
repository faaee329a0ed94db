"""The whole tree, and the one way to load it: YAML plus dotted overrides, unknown keys refused."""

import difflib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, TypeVar

from pydantic import ValidationError

from pipeline.config.comparison import CompareConfig, GraftConfig, ReproduceConfig
from pipeline.config.data import DataConfig, PrepareConfig, SegmenterConfig, TokenizerConfig
from pipeline.config.explanation import explained, plain_kind
from pipeline.config.inference import EvaluateConfig, GenerateConfig, ModelsConfig
from pipeline.config.infrastructure import DeepSpeedConfig, RayConfig, RunConfig, TrackingConfig
from pipeline.config.models import LmConfig, Precision, SllmConfig, TrunkConfig, VaeConfig
from pipeline.config.paths import PathString, is_url, resolved_path
from pipeline.config.recorded import check_secrets, config_of, is_record
from pipeline.config.section import Section, alternatives, is_section
from pipeline.config.segmenter_training import SegmenterTrainConfig
from pipeline.config.stream import StreamConfig
from pipeline.errors import ConfigError
from pipeline.remote import StorageError, text_at
from pipeline.unique_keys import line_of, read_value, read_yaml

S = TypeVar("S", bound=Section)


class Config(Section):
    """The whole tree."""

    output: PathString | None = None
    """Folder or fsspec URL that the job writes to."""
    shards: PathString | tuple[PathString, ...] | None = None
    """Folder or fsspec URL of sentence shards that a training or evaluation job reads. Training also takes a list of
    several, mixed by `stream.weights`."""
    launcher: Literal["auto", "ray", "local"] = "auto"
    """`ray`: on a Ray cluster, or one started here; training uses DeepSpeed. `local`: on this machine without Ray;
    training runs in one process. `auto`: `ray` for training; for preparation, evaluation, generation and what `compare`
    measures `ray` if a cluster is given (`ray.address`, RAY_ADDRESS, a submitted job), else `local`."""
    precision: Precision = "fp32"
    """Arithmetic of training. Weights and moments stay in fp32, and so do sums of gradients except at ZeRO stages 0 and
    1. fp16 scales the loss."""
    data: DataConfig = DataConfig()
    segmenter: SegmenterConfig = SegmenterConfig()
    segmenter_training: SegmenterTrainConfig = SegmenterTrainConfig()
    tokenizer: TokenizerConfig = TokenizerConfig()
    prepare: PrepareConfig = PrepareConfig()
    stream: StreamConfig = StreamConfig()
    trunk: TrunkConfig = TrunkConfig()
    lm: LmConfig = LmConfig()
    vae: VaeConfig = VaeConfig()
    sllm: SllmConfig = SllmConfig()
    models: ModelsConfig = ModelsConfig()
    evaluate: EvaluateConfig = EvaluateConfig()
    generate: GenerateConfig = GenerateConfig()
    compare: CompareConfig = CompareConfig()
    graft: GraftConfig = GraftConfig()
    reproduce: ReproduceConfig = ReproduceConfig()
    ray: RayConfig = RayConfig()
    deepspeed: DeepSpeedConfig = DeepSpeedConfig()
    tracking: TrackingConfig = TrackingConfig()
    run: RunConfig = RunConfig()

    @property
    def shard_folders(self) -> tuple[str, ...]:
        """The folders of `shards`, one or several or none."""
        return (self.shards,) if isinstance(self.shards, str) else self.shards or ()


def load_config(path: str | None, overrides: list[str] | tuple[str, ...] = ()) -> Config:
    """The tree of jobs, as `load_section` loads it."""
    return load_section(Config, path, overrides)


def load_section(kind: type[S], path: str | None, overrides: list[str] | tuple[str, ...] = ()) -> S:
    """A tree of this class from a YAML file (or none) with overrides `dotted.key=YAML value` on top.

    A `Config` is also read from the record of a job, `job.json`.
    If a key is overridden twice, the last override counts; `undone` names the others.

    Raises `ConfigError` for a missing or broken file, for an unknown key (naming the nearest known one), and for a
    key given twice in a mapping.
    """
    text = "" if path is None else _text_of(resolved_path(path))
    tree = {} if path is None else _tree_of(text, path)
    is_recorded = kind is Config and is_record(tree)
    if is_recorded:
        tree, text = config_of(tree), ""
    given = {}
    for override in overrides:
        key, value = _parts(override, kind)
        _set(tree, key, read_value(value, f"override {override!r}"))
        given[key] = override
    if is_recorded:
        check_secrets(tree, str(path))
    return _validated(kind, tree, given, path, text)


def undone(overrides: Sequence[str]) -> list[str]:
    """One line for each override that a later one replaces, by the same key or by a section around it."""
    lines, given = [], dict[str, str]()
    for override in overrides:
        key, value = _parts(override)
        lines += [
            f"{other}={earlier} does not count: {override} after it does"
            for other, earlier in given.items()
            if (other == key and earlier != value) or other.startswith(f"{key}.")
        ]
        given[key] = value
    return lines


def override(config: Config, values: Mapping[str, object]) -> Config:
    """The configuration with other values at dotted keys. Raises `ConfigError` as `load_config` does."""
    tree = config.model_dump(mode="json")
    for key, value in values.items():
        _set(tree, key, value)
    return _validated(Config, tree, {key: f"{key}={value}" for key, value in values.items()})


def _text_of(path: str) -> str:
    file = Path(path)
    if not is_url(path) and file.is_dir():
        inside = ", ".join(sorted(name.name for name in file.glob("*.y*ml"))[:3])
        raise ConfigError(
            f"the configuration {path} is a folder; name a YAML file{f' in it: {inside}' if inside else ''}"
        )
    try:
        return text_at(path)
    except StorageError as error:
        raise ConfigError(f"cannot read the configuration: {error}") from error
    except FileNotFoundError as error:
        raise ConfigError(
            f"cannot read the configuration {path}: there is no such file; without a file, begin with "
            "KEY=VALUE, such as output=runs/first"
        ) from error
    except OSError as error:
        raise ConfigError(f"cannot read the configuration {path}: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise ConfigError(f"{path} is not valid YAML: it is not UTF-8 (byte {error.start})") from error


def _tree_of(text: str, path: str) -> dict[str, Any]:
    tree = read_yaml(text, path)
    if tree is None:
        return {}
    if not isinstance(tree, dict):
        raise ConfigError(f"{path} must hold a mapping of sections, not {plain_kind(tree)}")
    return tree


def _validated(
    kind: type[S], tree: dict[str, Any], overrides: Mapping[str, str], path: str | None = None, text: str = ""
) -> S:
    """The configuration in `tree`. Raises `ConfigError`, which names the override of each mistake, or its line in the
    file `path` (of content `text`)."""
    try:
        return kind.model_validate(tree)
    except ValidationError as error:
        mistakes = explained(error, kind)
    in_file = _mistakes_in(kind, _tree_of(text, path)) if path is not None and overrides else mistakes
    said: dict[str, list[str]] = {}
    for keys, what in mistakes.items():
        blamed = _overrides_at(".".join(keys), overrides, keys in in_file)
        line = None if blamed or path is None else line_of(text, keys)
        where = blamed or ("the configuration" if path is None else path)
        said.setdefault(where if line is None else f"{where}, line {line}", []).append(what)
    raise ConfigError("; ".join(f"{where}: {'; '.join(each)}" for where, each in said.items()))


def _mistakes_in(kind: type[Section], tree: dict[str, Any]) -> dict[tuple[str, ...], str]:
    try:
        kind.model_validate(tree)
    except ValidationError as error:
        return explained(error, kind)
    return {}


def _overrides_at(key: str, overrides: Mapping[str, str], is_in_file: bool) -> str:
    """The overrides that caused a mistake at `key`; none where the file has the mistake too."""
    above = [given for name, given in overrides.items() if f"{key}.".startswith(f"{name}.")]
    below = [given for name, given in overrides.items() if name.startswith(f"{key}.") or not key]
    blamed = above[-1:] or ([] if is_in_file else below)
    return (
        ("override " if len(blamed) == 1 else "overrides ") + ", ".join(map(repr, blamed)) if blamed else ""
    )


def _parts(override: str, kind: type[Section] | None = None) -> tuple[str, str]:
    key, separator, value = override.partition("=")
    if separator and key:
        return key, value
    if override.endswith((".yaml", ".yml")):
        raise ConfigError(f"{override!r} is not the first argument: one YAML file goes first, then KEY=VALUE")
    near = difflib.get_close_matches(override, _keys(kind or Config), n=1)
    example = f"{near[0]}=..." if near else "section.key=value"
    raise ConfigError(f"override {override!r} must look like {example}")


def _keys(section: type[Section], prefix: str = "") -> Iterator[str]:
    for name, field in section.model_fields.items():
        yield prefix + name
        for kind in alternatives(field.annotation):
            if is_section(kind):
                yield from _keys(kind, f"{prefix}{name}.")


def _set(tree: dict[str, Any], key: str, value: object) -> None:
    *parents, last = key.split(".")
    node = tree
    for parent in parents:
        child = node.get(parent)
        if not isinstance(child, dict | None):
            raise ConfigError(f"override of {key!r}: {parent} is a value, not a section")
        node[parent] = dict(child or {})  # a copy: YAML aliases share one mapping between sections
        node = node[parent]
    node[last] = value
