"""`sllm train-sllm`: the language model that predicts the next sentence."""

from jobs.runner.training import goes_on_from, run_training
from pipeline.config import Config
from pipeline.errors import ConfigError
from pipeline.lineage import JobRecord

_OF_VAE = ("vae.freeze_embedding", "vae.loss_vocabulary")
"""Options of a trained SentenceVAE that the SLLM's own configuration sets."""


def run(config: Config, force: bool = False) -> JobRecord:
    """Train on `config.shards`, from `config.models.vae` and the trunk of `config.models.lm`, from scratch, or from
    the weights of `config.models.sllm`. Raises `ConfigError` where one that is needed is not named."""
    staged = config.sllm.vae_from == "vae"
    starts_anew = goes_on_from("train-sllm", config) is None
    if starts_anew and staged and config.models.vae is None:
        raise ConfigError(
            "train-sllm needs models.vae=FOLDER, written by `sllm train-vae`; or set sllm.vae_from=config"
        )
    if starts_anew and config.sllm.trunk_from == "lm" and config.models.lm is None:
        raise ConfigError("sllm.trunk_from=lm needs models.lm=FOLDER; or set sllm.trunk_from=path or config")
    models = [config.models.vae if staged else None, config.models.lm]
    sections = ["trunk", "sllm", "lm.context_tokens", *(_OF_VAE if staged else ["vae"])]
    return run_training("train-sllm", config, sections, models, force)
