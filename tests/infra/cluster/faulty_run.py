"""A driver for a test: it trains on the cluster at the address, and appends what is reported to a file.

`python -m tests.infra.cluster.faulty_run FOLDER OVERRIDE...`
"""

import json
import logging
import sys
from pathlib import Path

from infra.cluster.training import train_on_cluster
from pipeline.config import load_config


def main(folder: Path, overrides: list[str]) -> None:
    """Train a SentenceVAE into `folder`."""
    logging.basicConfig(level=logging.WARNING, format="%(message)s", stream=sys.stderr)
    with (folder / "curve.jsonl").open("a") as curve:

        def report(metrics: dict[str, float]) -> None:
            curve.write(json.dumps(metrics) + "\n")
            curve.flush()

        config = load_config(None, overrides)
        train_on_cluster("train-vae", config, str(folder / "checkpoints"), str(folder / "model"), report)


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2:])
