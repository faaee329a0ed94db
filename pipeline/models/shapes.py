"""The models that a configuration describes, without its weights: on the meta device, whatever their size."""

from dataclasses import dataclass

import torch
from transformers import AutoModelForCausalLM

from pipeline.config import Config
from pipeline.models.build import max_positions, sllm_model_config, vae_model_config
from pipeline.models.sentence_vae import SentenceVae
from pipeline.models.sllm import Sllm
from pipeline.models.token_lm import TokenLm
from pipeline.models.tokenizer_agreement import check_tokenizer
from pipeline.models.trunk import choose_trained, empty_model, shape_config
from pipeline.shards.reading import open_shards


@dataclass(frozen=True)
class Shapes:
    """The three models of a configuration."""

    lm: TokenLm
    vae: SentenceVae
    sllm: Sllm


def shapes(config: Config, device: str = "meta") -> Shapes:
    """Build them without reading weights; on a real device, with fresh ones.

    The vocabulary is the shards', else the one that the trunk or the tokenizer is given. Raises `ModelError`,
    `ShardError`.
    """
    vocab_size = config.tokenizer.vocab_size
    if config.shard_folders:
        vocab_size = open_shards(config.shard_folders[0], config.stream).tokenizer().vocab_size
    trunk = shape_config(config.trunk, max_positions=max_positions(config), vocab_size=vocab_size)
    if config.shard_folders and config.trunk.path is not None:
        check_tokenizer(config.trunk.path, trunk, open_shards(config.shard_folders[0], config.stream))
    if not config.shard_folders:
        vocab_size = trunk.vocab_size
    with torch.device(device):
        lm = TokenLm(empty_model(AutoModelForCausalLM, trunk, "trunk.config"))
        vae_config = vae_model_config(
            config,
            config.vae.hidden_size or trunk.hidden_size,
            vocab_size=vocab_size,
            max_sentence_tokens=config.prepare.max_sentence_tokens,
        )
        sllm = Sllm(sllm_model_config(config, vae_config, trunk))
        choose_trained(sllm.trunk, config.sllm)
        return Shapes(lm, SentenceVae(vae_config), sllm)
