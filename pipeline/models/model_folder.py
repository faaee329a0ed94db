"""Models in folders and on the hub. Each fault is an error; a missing weight is never initialised silently."""

import contextlib
import json
import re
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, TypeVar

import torch
from safetensors import SafetensorError, safe_open
from transformers import AutoConfig, PreTrainedConfig, PreTrainedModel
from transformers.utils import logging as transformers_logging

from pipeline.config import Config
from pipeline.errors import ModelError
from pipeline.fetched import local_model
from pipeline.names_in_folder import first_outside

_LAYER = re.compile(r"(?:^|\.)(?:h|layers?|blocks?|encoder|decoder)\.(\d+)\.")

_LAYER_COUNTS = (
    "num_layers",
    "encoder_layers",
    "num_hidden_layers",
    "n_layer",
    "n_layers",
    "num_decoder_layers",
)
Pretrained = TypeVar("Pretrained", bound=PreTrainedModel)


def with_local_models(config: Config, names: Collection[str] = ("lm", "vae", "sllm")) -> Config:
    """The configuration with local copies, below `stream.cache`, of what it names by a URL: of `models` those with
    these `names`, and the model of `trunk.path` where `names` has `trunk`.

    Raises as `pipeline.fetched.local_model`.
    """
    cache = config.stream.cache
    models = {name: local_model(path, cache) for name, path in config.models if path and name in names}
    trunk = {"path": local_model(config.trunk.path, cache)} if config.trunk.path and "trunk" in names else {}
    return config.model_copy(
        update={
            "models": config.models.model_copy(update=models),
            "trunk": config.trunk.model_copy(update=trunk),
        }
    )


def is_folder(path: str) -> bool:
    """Whether a model is in a folder of this machine, not on the hub."""
    return Path(path).is_dir()


def check_folder(path: str) -> None:
    """Raise `ModelError` where there is no such folder. Models that a job of ours trained are never on the hub."""
    if not is_folder(path):
        raise ModelError(
            f"there is no model at {path}: name the folder that a training job or `sllm export` wrote"
        )


def on_device(build: Callable[[], Pretrained], read_weights: bool) -> Pretrained:
    """A model with fresh weights, into which saved ones are read; without `read_weights` on the meta device."""
    with torch.device("cpu" if read_weights else "meta"):
        return build()


def read_config(path: str, trust_remote_code: bool = False) -> PreTrainedConfig:
    """The configuration in a folder or hub name; the weights in a folder are opened, not read.

    Raises `ModelError` where there is none, or a file of the model is damaged.
    """
    file = Path(path) / "config.json"
    if is_folder(path) and not file.exists():
        raise ModelError(f"there is no model at {path}: the folder has no {file.name}")
    if file.is_absolute():  # as no hub name is
        check_folder(path)
    _check_files(path)
    try:
        return AutoConfig.from_pretrained(path, trust_remote_code=trust_remote_code)
    except Exception as error:  # of transformers, which raises any kind for a value that it does not expect
        _check_code(path, error)
        where = "" if is_folder(path) else "it is no folder, and as a name on the hub: "
        raise ModelError(f"there is no model at {path}: {where}{reason(error)}") from error


def load_model(loader: Any, path: str, what: str, **options: Any) -> PreTrainedModel:
    """The model in a folder or hub name, by `loader.from_pretrained`.

    Raises `ModelError` where there is none, a file is damaged, or its weights are not those of its configuration.
    """
    _check_files(path)
    options.setdefault("trust_remote_code", False)  # None would ask on the terminal
    try:
        with _quiet():
            model, found = loader.from_pretrained(path, output_loading_info=True, **options)
    except MemoryError:
        raise
    except Exception as error:  # of transformers, safetensors and torch, for damage of any kind
        _check_code(path, error)
        raise ModelError(f"no {what} in {path!r}: {reason(error)}") from error
    layers = getattr(model.config, "num_hidden_layers", None)
    unknown = {name for name in found["unexpected_keys"] if _is_beyond(name, layers)}
    for names, fault in ((found["missing_keys"], "lack"), (unknown, "have more than its config.json says:")):
        if names:
            raise ModelError(
                f"the {what} in {path!r} is not whole: its weights {fault} {_some(names)}; get the model again"
            )
    return model


def _check_code(path: str, error: Exception) -> None:
    """Raise `ModelError` where the library refused to run a model's code."""
    if isinstance(error, ValueError) and "trust_remote_code" in str(error):
        raise ModelError(
            f"the model in {path!r} has code of its own (auto_map in its config.json), which is not run: set "
            "trunk.trust_remote_code=true if you have read and trust it"
        ) from error


def _check_files(path: str) -> None:
    """Look at the files of a folder without reading weights. Raises `ModelError` for a damaged one, for an index that
    names a file outside of the folder, and where the configuration has more layers than the weights have tensors:
    building it could take hours."""
    file, tree = Path(path) / "config.json", {}
    if file.is_file():
        try:
            tree = json.loads(file.read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise ModelError(f"{file} is damaged: {error}; get the model again") from error
        if not isinstance(tree, dict):
            raise ModelError(f"{file} is damaged: it holds no JSON object; get the model again")
    num_tensors = _num_tensors(path)
    for key, layers in _numbers_of_layers(tree):
        if num_tensors and layers > num_tensors:
            raise ModelError(
                f"{file} is damaged: {key} is {layers}, the weights have {num_tensors} tensors; get the model again"
            )


def _num_tensors(path: str) -> int:
    """Tensors in the safetensors files of a folder, by their headers; 0 where there are no such files."""
    for index in sorted(Path(path).glob("*.index*.json")):
        _check_index(index)
    num_tensors = 0
    for file in sorted(Path(path).glob("*.safetensors")):
        try:
            with safe_open(file, framework="pt") as weights:
                num_tensors += len(weights.keys())
        except (OSError, SafetensorError) as error:
            raise ModelError(f"{file} is damaged: {reason(error)}; get the model again") from error
    return num_tensors


def _check_index(index: Path) -> None:
    try:
        named = json.loads(index.read_bytes())["weight_map"].values()
    except (OSError, ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
        raise ModelError(f"{index} is damaged: {reason(error)}; get the model again") from error
    outside = first_outside(named)
    if outside is not None:
        raise ModelError(
            f"{index} names the file {outside!r}, which is not in the folder: do not use this model, or get it again"
        )


def _numbers_of_layers(tree: Mapping[str, Any]) -> Iterator[tuple[str, int]]:
    """Keys of numbers of layers and their values, in the configuration and the configurations nested in it."""
    for key, value in tree.items():
        if isinstance(value, Mapping):
            yield from _numbers_of_layers(value)
        elif key in _LAYER_COUNTS and isinstance(value, int):
            yield key, value


def reason(error: BaseException) -> str:
    """The message of an error on one line, cut where it is long."""
    text = " ".join(str(error).split()) or type(error).__name__
    return text if len(text) <= 300 else text[:297] + "..."


def _is_beyond(name: str, num_layers: int | None) -> bool:
    """Whether a weight belongs to a layer that the configuration lacks. Other heads and old buffers are harmless."""
    found = _LAYER.search(name)
    return found is not None and num_layers is not None and int(found[1]) >= num_layers


def _some(names: Iterable[str]) -> str:
    listed = sorted(names)
    return ", ".join(listed[:3]) + (f" and {len(listed) - 3} more" if len(listed) > 3 else "")


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """A context without the library's report on missing weights, which become an error of ours."""
    before = transformers_logging.get_verbosity()
    transformers_logging.set_verbosity_error()
    try:
        yield
    finally:
        transformers_logging.set_verbosity(before)
