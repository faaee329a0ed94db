"""The whole tree, and the one way to load it: YAML plus dotted overrides, unknown keys refused."""

import difflib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal, get_args

import yaml
from pydantic import ValidationError

from pipeline.config.comparison import CompareConfig
from pipeline.config.corpus import DataConfig, PrepareConfig, SegmenterConfig, TokenizerConfig
from pipeline.config.models import LmConfig, SllmConfig, TrunkConfig, VaeConfig
from pipeline.config.running import DeepSpeedConfig, RayConfig, RunConfig, TrackingConfig
from pipeline.config.section import Section
from pipeline.config.segmenter_training import SegmenterTrainConfig
from pipeline.config.stream import StreamConfig
from pipeline.config.use import EvaluateConfig, GenerateConfig, ModelsConfig
from pipeline.errors import ConfigError


class Config(Section):
    """The whole tree."""

    output: str | None = None
    """Folder that the job writes to."""
    shards: str | tuple[str, ...] | None = None
    """Folder of sentence shards that a training or evaluation job reads. Training also takes an fsspec URL, and a list
    of several, mixed by `stream.weights`."""
    launcher: Literal["auto", "ray", "local"] = "auto"
    """`ray`: on a cluster or one started here, training with DeepSpeed; `local`: on this machine without Ray,
    training in this one process. `auto`: training as `ray`; preparation as `ray` where a cluster is given
    (`ray.address`, RAY_ADDRESS, a submitted job), else as `local`, as starting Ray costs more than it brings."""
    precision: Literal["fp32", "bf16", "fp16"] = "fp32"
    """Arithmetic of training; weights, moments and sums stay in fp32. fp16 scales the loss."""
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
    ray: RayConfig = RayConfig()
    deepspeed: DeepSpeedConfig = DeepSpeedConfig()
    tracking: TrackingConfig = TrackingConfig()
    run: RunConfig = RunConfig()

    @property
    def shard_folders(self) -> tuple[str, ...]:
        """The folders of `shards`, one or several or none."""
        return (self.shards,) if isinstance(self.shards, str) else self.shards or ()


def load_config(path: str | None, overrides: list[str] | tuple[str, ...] = ()) -> Config:
    """The tree from a YAML file (or none) with overrides `dotted.key=YAML value` on top.

    Raises `ConfigError` for a missing or broken file and for an unknown key (naming the nearest known one).
    """
    tree: dict[str, Any] = {}
    if path is not None:
        try:
            tree = yaml.safe_load(Path(path).read_text(encoding="utf-8")) or {}
        except OSError as error:
            raise ConfigError(f"cannot read the configuration {path}: {error.strerror}") from error
        except (yaml.YAMLError, UnicodeDecodeError) as error:
            raise ConfigError(f"{path} is not valid YAML: {error}") from error
        if not isinstance(tree, dict):
            raise ConfigError(f"{path} must hold a mapping of sections, not a {type(tree).__name__}")
    for override in overrides:
        _apply(tree, override)
    return _validated(tree, path or "overrides")


def override(config: Config, values: Mapping[str, object]) -> Config:
    """The configuration with other values at dotted keys. Raises `ConfigError` as `load_config` does."""
    tree = config.model_dump(mode="json")
    for key, value in values.items():
        _set(tree, key, value)
    return _validated(tree, "overrides")


def _validated(tree: dict[str, Any], source: str) -> Config:
    try:
        return Config.model_validate(tree)
    except ValidationError as error:
        raise ConfigError(f"{source}: " + "; ".join(map(_explain, error.errors()))) from error


def _apply(tree: dict[str, Any], change: str) -> None:
    key, separator, value = change.partition("=")
    if not separator or not key:
        raise ConfigError(f"override {change!r} must look like section.key=value")
    try:
        _set(tree, key, yaml.safe_load(value))
    except yaml.YAMLError as error:
        raise ConfigError(f"override {change!r}: the value is not valid YAML") from error


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


def _explain(error: Any) -> str:
    location = ".".join(map(str, error["loc"]))
    if error["type"] != "extra_forbidden":
        return f"{location}: {error['msg']} (got {error['input']!r})"
    *parents, unknown = error["loc"]
    section: Any = Config
    for parent in parents:
        if not hasattr(section, "model_fields"):  # dict[str, Section]: the parent is one of its keys
            section = get_args(section)[-1]
            continue
        section = section.model_fields[parent].annotation
    near = difflib.get_close_matches(str(unknown), section.model_fields, n=1, cutoff=0.0)
    return f"unknown key {location!r}; the nearest known is {'.'.join([*map(str, parents), *near])!r}"
