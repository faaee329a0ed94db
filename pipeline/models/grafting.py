"""What the options of a SentenceVAE must be beside a given pretrained language model."""

from transformers import AutoModelForCausalLM, PreTrainedConfig

from pipeline.config import Config
from pipeline.errors import ModelError
from pipeline.models.decoder_start import is_of_this_family
from pipeline.models.model_folder import on_device
from pipeline.models.trunk import empty_model, pretrained_config


def grafting_options(config: Config) -> dict[str, object]:
    """Dotted keys and values for a SentenceVAE and an SLLM around the model in `config.trunk.path`.

    Reads its configuration, no weights. Raises `ModelError` where there is no model, or none that can be built.
    """
    found = pretrained_config(str(config.trunk.path), config.trunk)
    model = on_device(
        lambda: empty_model(
            AutoModelForCausalLM, found, "trunk.path", trust_remote_code=config.trunk.trust_remote_code
        ),
        read_weights=False,
    )
    layers = config.graft.decoder_layers
    options: dict[str, object] = {
        "vae.num_layers": layers,
        "vae.tie_word_embeddings": bool(found.tie_word_embeddings),
        "sllm.trunk_from": "path",
        "sllm.context_sentences": min(config.sllm.context_sentences, _positions(found) - 1),
        "lm.context_tokens": min(config.lm.context_tokens, _positions(found)),
    }
    heads = found.num_attention_heads
    if not is_of_this_family(model):
        return {**options, "vae.num_heads": heads, "vae.decoder_from_lm": None}
    all_layers, first = found.num_hidden_layers, -(-layers // 2)
    if layers > all_layers:
        raise ModelError(
            f"graft.decoder_layers={layers}, the model in {config.trunk.path} has {all_layers}: lower it"
        )
    return {
        **options,
        "vae.block": "llama",
        "vae.num_heads": heads,
        "vae.ffn_multiplier": found.intermediate_size / found.hidden_size,
        "vae.rope_theta": (getattr(found, "rope_parameters", None) or {}).get("rope_theta", 10_000.0),
        "vae.decoder_from_lm": [*range(first), *range(all_layers - layers + first, all_layers)],
    }


def _positions(found: PreTrainedConfig) -> int:
    return int(getattr(found, "max_position_embeddings", None) or 2**30)
