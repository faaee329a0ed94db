"""`sllm train-vae`: the SentenceVAE, a sentence to one vector and back."""

from jobs.runner.training import run_training
from pipeline.config import Config
from pipeline.lineage import JobRecord


def run(config: Config, force: bool = False) -> JobRecord:
    """Train on `config.shards`, with the embedding of `config.models.lm` where there is one; or from the
    weights of `config.models.vae`."""
    sections = ["trunk", "vae", "sllm.context_sentences"]
    return run_training("train-vae", config, sections, [config.models.lm], force)
