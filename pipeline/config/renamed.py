"""Keys that were renamed or removed: an error names the new key, and files saved with the old one can still be read."""

from collections.abc import Mapping
from typing import Any

RENAMED = {
    "vae.kl_floor": "vae.free_bits",
    "vae.decoder_context_tokens": "vae.decoder_window",
    "vae.head_latent_scale": "vae.output_latent_scale",
    "vae.encoder_reads": "vae.encoder_embedding",
    "vae.feed_forward_factor": "vae.ffn_multiplier",
    "sllm.lookup_heads": "sllm.context_attention_heads",
    "sllm.scored_sentences": "sllm.loss_sentences",
    "lm.scored_tokens": "lm.loss_tokens",
    "prepare.split_bytes": "prepare.work_unit_bytes",
    "stream.pool_windows": "stream.packing_pool_windows",
    "segmenter_training.hide_words": "segmenter_training.word_dropout",
    "segmenter_training.unmarked_steps": "segmenter_training.unpunctuated_steps",
    "segmenter_training.unmarked_learning_rate": "segmenter_training.unpunctuated_learning_rate",
}
REMOVED = {
    "vae.initial_latent_scale": "weights that condition the decoder on the latent start like all others"
}
"""Removed keys, and the behaviour instead. They only changed initial weights: a saved model does not need them."""
_REMOVED_VALUES = {"vae.initial_latent_scale": 1.0}
"""The value of a removed key that equals today's behaviour. A job with another value is a different job."""
_VALUES = {"vae.encoder_reads": {"embedding": "input", "head": "output"}}


def with_current_names(section: str, options: Mapping[str, Any]) -> dict[str, Any]:
    """The options of a saved section under today's names."""
    current = {}
    for name, value in options.items():
        key = f"{section}.{name}"
        if key in REMOVED:
            continue
        values = _VALUES.get(key, {})
        current[RENAMED.get(key, key).rpartition(".")[2]] = (
            values.get(value, value) if isinstance(value, str) else value
        )
    return current


def tree_with_current_names(tree: Mapping[str, Any]) -> dict[str, Any]:
    """The same for a whole configuration. A removed key stays if its value differs from today's behaviour."""
    current: dict[str, Any] = {}
    for name, section in tree.items():
        if isinstance(section, Mapping):
            removed = {option: value for option, value in section.items() if f"{name}.{option}" in REMOVED}
            kept = {
                option: value
                for option, value in removed.items()
                if value != _REMOVED_VALUES[f"{name}.{option}"]
            }
            section = with_current_names(name, section) | kept
        current[name] = section
    return current


def is_old(key: str) -> bool:
    """Whether a key has another name today, or is gone."""
    return key in RENAMED or key in REMOVED


def new_name(key: str) -> str | None:
    """Today's name of a renamed key, and of its old values."""
    if key not in RENAMED:
        return None
    values = "".join(f", {old} is now {new}" for old, new in _VALUES.get(key, {}).items())
    return RENAMED[key] + values
