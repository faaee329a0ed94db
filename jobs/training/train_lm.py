"""`sllm train-lm`: the token-level language model, which is the baseline and the source of the trunk."""

from jobs.runner.training import run_training
from pipeline.config import Config
from pipeline.lineage import JobRecord


def run(config: Config, force: bool = False) -> JobRecord:
    """Train on `config.shards` into `config.output`; from the weights of `config.models.lm`, if it names any."""
    return run_training("train-lm", config, ["trunk", "lm", "sllm.context_sentences"], [], force)
