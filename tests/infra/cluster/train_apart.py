"""Train on a cluster whose workers get this process's environment: `train_apart.py ADDRESS CONFIG CHECKPOINTS OUTPUT`.

Prints the metrics of each step as one line of JSON.
"""

import json
import os
import sys

import ray

from infra.cluster.training import train_on_cluster
from pipeline.config import Config

if __name__ == "__main__":
    address, config, checkpoints, output = sys.argv[1:]
    given = {name: value for name, value in os.environ.items() if name.startswith("AWS_")}
    ray.init(address=address, runtime_env={"env_vars": given}, log_to_driver=False, logging_level="ERROR")
    train_on_cluster(
        "train-vae",
        Config.model_validate_json(config),
        checkpoints,
        output,
        lambda metrics: print(json.dumps(metrics), flush=True),
    )
