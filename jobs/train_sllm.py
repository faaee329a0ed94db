"""`sllm train-sllm`: the language model that predicts the next sentence."""

from jobs.training import run_training
from pipeline.config import Config
from pipeline.errors import ConfigError
from pipeline.lineage import JobRecord


def run(config: Config, force: bool = False) -> JobRecord:
    """Train on `config.shards` from `config.models.vae` and the trunk of `config.models.lm`."""
    if config.models.vae is None:
        raise ConfigError("train-sllm needs models.vae=FOLDER, written by `sllm train-vae`")
    if config.sllm.trunk_from == "lm" and config.models.lm is None:
        raise ConfigError("sllm.trunk_from=lm needs models.lm=FOLDER; or set sllm.trunk_from=path or config")
    models = [config.models.vae, config.models.lm]
    return run_training("train-sllm", config, ["trunk", "sllm", "lm.context_tokens"], models, force)
