"""The trunk: a decoder-only transformer of Hugging Face without its embedding and head, fed with `inputs_embeds`.

Which of its weights are trained is said here too: all, none, the first and last layers (as arXiv 2408.00655 does), or
low-rank adapters beside them (LoRA, arXiv 2106.09685).

Shape suffixes: V vocabulary, E width of the token embedding, H hidden size.
"""

from pathlib import Path
from typing import Any

from torch import Tensor, nn
from transformers import AutoConfig, AutoModel, PreTrainedConfig, PreTrainedModel
from transformers.pytorch_utils import Conv1D

from pipeline.config import SllmConfig, TrunkConfig
from pipeline.errors import ConfigError, ModelError

ADAPTER = "default"
"""peft's name for an adapter without a name."""


def new_config(config: TrunkConfig, *, max_positions: int, **token_ids: int) -> PreTrainedConfig:
    """The Hugging Face configuration of a trunk that `config.config` describes.

    `token_ids` (`vocab_size`, `bos_token_id`, ...) and `max_positions` hold where it says nothing else.
    Raises `ModelError` for an unknown `model_type` or a value that it refuses.
    """
    options = dict(config.config)
    model_type = options.pop("model_type", None)
    options.setdefault("max_position_embeddings", max_positions)
    try:
        # Ids that a family would take from its own tokenizer (OPT pads with 1) are ours or none.
        ids: dict[str, Any] = {"pad_token_id": None, **token_ids}
        return AutoConfig.for_model(model_type, **{**ids, **options})
    except (ValueError, TypeError) as error:
        raise ModelError(f"trunk.config cannot be used (model_type {model_type!r}): {error}") from error


def pretrained_config(path: str, config: TrunkConfig) -> PreTrainedConfig:
    """The configuration in a folder or hub name. Raises `ModelError` where there is none, or where it is not
    what `config.config` says, if that says anything."""
    try:
        found = AutoConfig.from_pretrained(path, trust_remote_code=config.trust_remote_code)
    except (OSError, ValueError) as error:
        raise ModelError(f"no model configuration in {path!r}: {str(error).splitlines()[0]}") from error
    said = config.config if path == config.path and config.config != TrunkConfig().config else {}
    for key, value in said.items():
        if getattr(found, key, None) != value:
            raise ModelError(
                f"{path!r} has {key} {getattr(found, key, None)!r}, trunk.config says {value!r}: "
                "leave trunk.config out, or name the model that it describes"
            )
    return found


def check_vocabulary(path: str, found: PreTrainedConfig, vocab_size: int) -> None:
    """Raise `ModelError` where a pretrained model knows fewer tokens than the shards' tokenizer."""
    if found.vocab_size < vocab_size:
        raise ModelError(
            f"the model in {path} has a vocabulary of {found.vocab_size}, the shards' tokenizer {vocab_size}: "
            "prepare the shards with the model's own tokenizer (tokenizer.path)"
        )


def shape_config(config: TrunkConfig, *, max_positions: int, **token_ids: int) -> PreTrainedConfig:
    """The configuration of the trunk, from the nearest place: the folder `config.path`, `config.config`, the hub."""
    described = config.path is None or config.config != TrunkConfig().config
    if described and not (config.path and Path(config.path).is_dir()):
        return new_config(config, max_positions=max_positions, **token_ids)
    return pretrained_config(str(config.path), config)


def empty_trunk(config: PreTrainedConfig) -> PreTrainedModel:
    """The layers and positions of a model, without a token embedding, with fresh weights.

    Raises `ModelError` for a model that is no decoder.
    """
    if hasattr(config, "word_embed_proj_dim"):
        # OPT's projections belong to the embedding (see `token_vectors`), which is left out.
        config.word_embed_proj_dim = config.hidden_size
    if getattr(config, "is_encoder_decoder", False):
        raise ModelError(f"a trunk is a decoder-only model; {config.model_type!r} has an encoder too")
    trunk = AutoModel.from_config(config)
    trunk.set_input_embeddings(nn.Identity())
    return trunk


def load_layers(trunk: PreTrainedModel, model: PreTrainedModel) -> None:
    """Take the weights of a causal language model, its embedding and head left out.

    Raises `ModelError` where the two are not of one shape.
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
    """The vector of each token as it enters the layers [V, H]; of OPT-350M, its embedding [V, E] projected to H."""
    embedding: Any = model.get_input_embeddings()
    weight_VE: Tensor = embedding.weight.detach()
    for name, module in model.named_modules():
        if name.endswith("decoder.project_in") and isinstance(module, nn.Linear):
            return weight_VE @ module.weight.detach().T
    return weight_VE


def layers_of(trunk: PreTrainedModel) -> nn.ModuleList:
    """The layers of the transformer, in order. Raises `ModelError` for a model built in some other way."""
    for module in trunk.modules():
        if isinstance(module, nn.ModuleList) and len(module) == trunk.config.num_hidden_layers:
            return module
    raise ModelError(f"cannot tell the layers of a {trunk.config.model_type!r}: train all of it, or none")


def choose_trained(trunk: PreTrainedModel, config: SllmConfig) -> None:
    """Freeze what `config.train_trunk` leaves out, or put LoRA's adapters in; what is around the trunk stays."""
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
    """`weights` of `model` with LoRA's products added to the matrices beside them; without adapters, as they are.

    So a trained model is a plain folder that loads without peft and costs nothing more to run. It works on named
    weights and not on the module, whose own are in pieces under ZeRO-3.
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
