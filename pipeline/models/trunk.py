"""The trunk: a decoder-only transformer of Hugging Face without its embedding and head, fed with `inputs_embeds`.

It also selects which weights are trained: all, none, the first and last layers (as in arXiv 2408.00655), or low-rank
adapters (LoRA, arXiv 2106.09685).
"""

import difflib
import inspect
import warnings
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn
from transformers import CONFIG_MAPPING, AutoConfig, AutoModel, PreTrainedConfig, PreTrainedModel
from transformers.pytorch_utils import Conv1D

from pipeline.config import SllmConfig, TrunkConfig
from pipeline.errors import ConfigError, ModelError
from pipeline.models.model_folder import read_config, reason

ADAPTER = "default"
"""peft's name for an adapter without a name."""


def _check_names(model_type: str, options: Mapping[str, Any]) -> None:
    """Raise `ModelError` for a name that is nearly an option of this family: transformers would ignore the mistake."""
    family = CONFIG_MAPPING[model_type]
    names = {*dir(family()), *inspect.signature(family.__init__).parameters}
    public = sorted(name for name in names if not name.startswith("_"))
    for name in options:
        is_known = name in names or f"_{name}" in names or name == "torch_dtype"
        near = [] if is_known else difflib.get_close_matches(name, public, n=3, cutoff=0.7)
        if near:
            raise ModelError(
                f"trunk.config.{name} is no option of {model_type!r}; near are {', '.join(near)}"
            )


def new_config(config: TrunkConfig, *, max_positions: int, **token_ids: int) -> PreTrainedConfig:
    """The Hugging Face configuration of a trunk that `config.config` describes.

    `token_ids` (`vocab_size`, `bos_token_id`, ...) and `max_positions` apply unless it sets them. Raises `ModelError`
    for an unknown `model_type` or a value that it refuses.
    """
    options = dict(config.config)
    model_type = options.pop("model_type", None)
    options.setdefault("max_position_embeddings", max_positions)
    known = sorted(CONFIG_MAPPING)
    if not isinstance(model_type, str) or model_type not in CONFIG_MAPPING:
        near = difflib.get_close_matches(str(model_type), known, n=3, cutoff=0.0)
        raise ModelError(f"trunk.config.model_type={model_type!r} is unknown; near are {', '.join(near)}")
    _check_names(model_type, options)
    try:
        # A family's ids for its own tokenizer (OPT pads with 1) are replaced by ours or by none.
        ids: dict[str, Any] = {"pad_token_id": None, **token_ids}
        found = AutoConfig.for_model(model_type, **{**ids, **options})
    except Exception as error:  # of transformers, which raises any kind for a value that it does not expect
        raise ModelError(
            f"trunk.config cannot be used (model_type {model_type!r}): {reason(error)}"
        ) from error
    for key in ("hidden_size", "num_hidden_layers", "num_attention_heads", "vocab_size"):
        value = getattr(found, key, None)
        if not isinstance(value, int) or value < 1:
            raise ModelError(f"trunk.config.{key} must be a whole number of at least 1, not {value!r}")
    return found


def pretrained_config(path: str, config: TrunkConfig) -> PreTrainedConfig:
    """The configuration in a folder or hub name. Raises `ModelError` where there is none, or where it contradicts
    `config.config`."""
    found = read_config(path, config.trust_remote_code)
    if path == config.path:
        check_described(path, found, config)
    return found


def check_described(path: str, found: PreTrainedConfig, config: TrunkConfig) -> None:
    """Raise `ModelError` where the model in `path` contradicts `config.config`."""
    said = dict(config.config) if config.config != TrunkConfig().config else {}
    if not said:
        return
    # In the form that the family saves: some keys have another name there.
    described = new_config(config, max_positions=1)
    if any(key.startswith("rope") for key in said):
        said["rope_parameters"] = getattr(described, "rope_parameters", None)
    for key in said:
        value = getattr(described, key, getattr(found, key, None))
        # The trunk of an SLLM has no projections of OPT's embedding, so the width of the embedding may differ.
        if key != "word_embed_proj_dim" and getattr(found, key, None) != value:
            raise ModelError(
                f"{path!r} has {key} {getattr(found, key, None)!r}, trunk.config says {value!r}: "
                "leave trunk.config out, or name the model that it describes"
            )


def check_positions(path: str, found: PreTrainedConfig, needed: int, key: str) -> None:
    """Raise `ModelError` where a model has fewer positions than needed."""
    positions = getattr(found, "max_position_embeddings", None)
    if positions is not None and positions < needed:
        raise ModelError(
            f"the model in {path} has {positions} positions, {key} is {needed}: lower it to {positions}"
        )


def empty_model(
    loader: Any,
    config: PreTrainedConfig,
    what: str,
    attention: str | None = None,
    trust_remote_code: bool = False,
) -> PreTrainedModel:
    """`loader.from_config` with fresh weights. Raises `ModelError` for values from which no model can be built."""
    options: dict[str, Any] = {} if attention is None else {"attn_implementation": attention}
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", UserWarning)  # of tensors without elements
            model: PreTrainedModel = loader.from_config(
                config, trust_remote_code=trust_remote_code, **options
            )
    except MemoryError:
        raise
    except Exception as error:  # of transformers and torch, for values that do not go together
        raise ModelError(f"{what} describes no model that can be built: {reason(error)}") from error
    return model


def check_runs(model: PreTrainedModel, what: str) -> None:
    """Raise `ModelError` where a model on the meta device cannot run a step, for example with heads that do not fit."""
    if model.device.type != "meta":
        return
    inputs: dict[str, Any] = {"attention_mask": torch.zeros((1, 1, 3, 3), device="meta"), "use_cache": False}
    if model.get_output_embeddings() is None:
        inputs["inputs_embeds"] = torch.zeros((1, 3, model.config.hidden_size), device="meta")
    else:
        inputs["input_ids"] = torch.zeros((1, 3), dtype=torch.long, device="meta")
    if (
        "position_ids" in inspect.signature(model.forward).parameters
    ):  # else OPT counts them in a mask of [1, 3]
        inputs["position_ids"] = torch.arange(3, device="meta")[None]
    try:
        model(**inputs)
    except Exception as error:  # of transformers and torch, for values that do not go together
        if "meta" in str(error) or isinstance(error, NotImplementedError):
            return  # a family that needs values while it runs
        raise ModelError(f"{what} describes a model that cannot run: {reason(error)}") from error


def check_vocabulary(path: str, found: PreTrainedConfig, vocab_size: int) -> None:
    """Raise `ModelError` where a pretrained model has a smaller vocabulary than the shards' tokenizer."""
    if found.vocab_size < vocab_size:
        raise ModelError(
            f"the model in {path} has a vocabulary of {found.vocab_size}, the shards' tokenizer {vocab_size}: "
            "prepare the shards with the model's own tokenizer (tokenizer.path)"
        )


def empty_trunk(config: PreTrainedConfig) -> PreTrainedModel:
    """A model's layers and positions, without token embedding and head, with fresh weights.

    Raises `ModelError` for a model that is no decoder.
    """
    if hasattr(config, "word_embed_proj_dim"):
        # OPT's projections belong to the embedding (see `token_vectors`), which is left out.
        config.word_embed_proj_dim = config.hidden_size
    if getattr(config, "is_encoder_decoder", False):
        raise ModelError(f"a trunk is a decoder-only model; {config.model_type!r} has an encoder too")
    trunk = empty_model(AutoModel, config, "trunk.config")
    trunk.set_input_embeddings(nn.Identity())
    return trunk


def load_layers(trunk: PreTrainedModel, model: PreTrainedModel) -> None:
    """Copy the weights of a causal language model, except its embedding and head.

    Raises `ModelError` where the shapes differ.
    """
    base: Any = model.base_model
    embedding: Any = model.get_input_embeddings()
    weights = {
        name: weight
        for name, weight in base.state_dict(keep_vars=True).items()
        if weight is not embedding.weight and not _is_opt_projection(name)
    }
    try:
        found = trunk.load_state_dict(weights, strict=False)
    except RuntimeError as error:
        reason = str(error).splitlines()[-1].strip()
        raise ModelError(f"the token-level model is not of the trunk's shape: {reason}") from error
    for names, what in ((found.missing_keys, "lacks"), (found.unexpected_keys, "has more than")):
        if names:
            raise ModelError(f"the token-level model {what} the trunk's weights: {', '.join(names[:3])}")


def token_vectors(model: PreTrainedModel) -> Tensor:
    """The vector of each token at the input of the layers [V, H]; for OPT-350M the embedding [V, E] projected to H."""
    embedding: Any = model.get_input_embeddings()
    weight_VE: Tensor = embedding.weight.detach()
    for name, module in model.named_modules():
        if name.endswith("decoder.project_in") and isinstance(module, nn.Linear):
            return weight_VE @ module.weight.detach().T
    return weight_VE


def layers_of(trunk: PreTrainedModel) -> nn.ModuleList:
    """The layers of the transformer, in order. Raises `ModelError` for a model without a list of layers."""
    for module in trunk.modules():
        if isinstance(module, nn.ModuleList) and len(module) == trunk.config.num_hidden_layers:
            return module
    raise ModelError(f"cannot find the layers of a {trunk.config.model_type!r}: train all of it, or none")


def choose_trained(trunk: PreTrainedModel, config: SllmConfig) -> None:
    """Freeze the weights of the trunk that `config.train_trunk` excludes, or add LoRA adapters.

    Raises `ConfigError` where peft is missing.
    """
    trunk.requires_grad_(config.train_trunk == "all")
    if config.train_trunk == "ends":
        layers, ends = layers_of(trunk), config.train_trunk_end_layers
        if 2 * ends >= len(layers):
            raise ConfigError(
                f"sllm.train_trunk_end_layers={ends} at both ends are all {len(layers)} layers: "
                "set sllm.train_trunk=all"
            )
        for layer in (*layers[:ends], *layers[-ends:]):
            layer.requires_grad_(True)
    elif config.train_trunk == "lora":
        _add_adapters(trunk, config)


def merge_adapters(model: nn.Module, weights: dict[str, Tensor]) -> dict[str, Tensor]:
    """`weights` of `model`, each in its shape, with the LoRA products added to matrices; without adapters unchanged.

    So a trained model is a plain folder that loads without peft, at no extra cost. It takes weights by name, since
    those of the module are partitioned under ZeRO-3.
    """
    merged = {
        name.replace(".base_layer.", "."): value for name, value in weights.items() if ".lora_" not in name
    }
    for name, module in model.named_modules():
        if isinstance(getattr(module, "lora_A", None), nn.ModuleDict):
            down, up = (weights[f"{name}.{side}.{ADAPTER}.weight"] for side in ("lora_A", "lora_B"))
            change = up @ down * module.scaling[ADAPTER]
            own = merged[f"{name}.weight"]
            merged[f"{name}.weight"] = own + (change.T if isinstance(module.base_layer, Conv1D) else change)
    return merged


def _add_adapters(trunk: PreTrainedModel, config: SllmConfig) -> None:
    try:
        from peft import LoraConfig, inject_adapter_in_model
    except ImportError as error:
        raise ConfigError("sllm.train_trunk=lora needs the package peft: pip install 'sllm[lora]'") from error
    layers = layers_of(trunk)
    prefix = next(name for name, module in trunk.named_modules() if module is layers)
    matrices = {
        f"{prefix}.{name}": module
        for name, module in layers.named_modules()
        if isinstance(module, nn.Linear | Conv1D)
    }
    options = LoraConfig(
        r=config.lora_rank,
        lora_alpha=config.lora_alpha,
        lora_dropout=config.lora_dropout,
        target_modules=list(matrices),
        fan_in_fan_out=any(isinstance(module, Conv1D) for module in matrices.values()),
    )
    inject_adapter_in_model(options, trunk, ADAPTER)


def _is_opt_projection(name: str) -> bool:
    return name.startswith(("decoder.project_in.", "decoder.project_out."))
