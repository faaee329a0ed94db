"""Configuration and text of the small models that tests of the runner share."""

from infra.tracking.store import client_of
from pipeline.config import load_config

TRAIN = "{steps: 2, micro_batch_tokens: 256, micro_batches_per_step: 1}"


TEXT = "The lazy dog sleeps. The quick fox jumps over it, and runs away! Does the dog wake? No. "


def config(root, output, *overrides):
    given = [
        *(f"output={root / output}", f"tracking.uri=sqlite:///{root}/mlflow.db", "launcher=local"),
        *(f'data.inputs=["{root}/corpus.jsonl"]', "data.dev_fraction=0.2", "prepare.num_workers=1"),
        *("lm.context_tokens=64", "sllm.context_sentences=8", "trunk.config.hidden_size=32"),
        *(f"lm.train={TRAIN}", f"vae.train={TRAIN}", f"sllm.train={TRAIN}"),
    ]
    if output != "shards":
        given.append(f"shards={root}/shards")
    return load_config(None, [*given, *overrides])


def runs(root):
    client = client_of(f"sqlite:///{root}/mlflow.db")
    experiment = client.get_experiment_by_name("sllm")
    return len(client.search_runs([experiment.experiment_id]))
