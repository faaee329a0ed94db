"""The jobs that faults strike: `sllm prepare` of a small corpus, `sllm train-lm` of a small model, as processes."""

import json
import os
import subprocess
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path

from tests.faults.judge import Place
from tests.faults.processes import kill_all

REPOSITORY = Path(__file__).parents[2]
DOCUMENTS = 240
STEPS, CHECKPOINT_EVERY = 30, 5
CONFIG = f"""
data: {{dev_fraction: 0.1}}
segmenter: {{name: "tests.faults.slow:Slow"}}
tokenizer: {{vocab_size: 300}}
prepare: {{num_workers: 2, work_unit_bytes: 3000}}
ray: {{num_workers: 2, max_failures: 3}}
trunk: {{config: {{model_type: llama, hidden_size: 32, intermediate_size: 64, num_hidden_layers: 2,
  num_attention_heads: 4, num_key_value_heads: 2, tie_word_embeddings: true}}}}
lm:
  context_tokens: 64
  train: {{steps: {STEPS}, micro_batch_tokens: 256, micro_batches_per_step: 8, learning_rate: 3.0e-3, warmup_steps: 4,
    eval_every: 15, eval_micro_batches: 2, checkpoint_every: {CHECKPOINT_EVERY}, log_every: 1}}
"""
SENTENCES = (
    "The lazy dog sleeps. ",
    "The quick fox jumps over it, and runs away! ",
    "Does the dog wake? ",
    "No, it counts {n} sheep. ",
    "Then it rains for {n} days.\n",
)


def write_corpus(folder: Path) -> None:
    """The corpus and the configuration of all jobs."""
    rows = [
        {
            "id": f"d{n}",
            "text": "".join(SENTENCES[(n * 7 + k) % 5].format(n=n + k) for k in range(5 + n % 17)),
        }
        for n in range(DOCUMENTS)
    ]
    (folder / "corpus.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (folder / "config.yaml").write_text(CONFIG)


@dataclass
class Job:
    """One job in a folder of its own, started once or several times by the same command."""

    verb: str
    arguments: list[str]
    environment: dict[str, str]
    folder: Path
    place: Place
    started: list[subprocess.Popen[bytes]] = field(default_factory=list)
    seen: set[str] = field(default_factory=set)
    """Checkpoints that were there at some time."""

    def start(self) -> subprocess.Popen[bytes]:
        """Start the command."""
        with (self.folder / f"{self.verb}-{len(self.started) + 1}.log").open("ab") as log:
            process = subprocess.Popen(
                [sys.executable, "-m", "jobs", self.verb, *self.arguments],
                cwd=self.folder,
                env=self.environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )
        self.started.append(process)
        return process

    @property
    def process(self) -> subprocess.Popen[bytes]:
        """The process of the last start."""
        return self.started[-1]

    def is_running(self) -> bool:
        """Whether the last start has not ended."""
        return self.process.poll() is None

    def wait(self, seconds: float) -> int | None:
        """The exit code; None where it does not end in time, and is killed."""
        try:
            return self.process.wait(seconds)
        except subprocess.TimeoutExpired:
            self.kill()
            return None

    def kill(self) -> None:
        """SIGKILL for the command and what it started."""
        kill_all(self.process.pid)
        self.process.wait()

    def log(self) -> str:
        """What the last start printed."""
        return (self.folder / f"{self.verb}-{len(self.started)}.log").read_text(errors="replace")

    def run(self, seconds: float) -> float:
        """Run to the end -> seconds. Raises `RuntimeError` where it fails."""
        start = time.monotonic()
        self.start()
        if self.wait(seconds) != 0:
            raise RuntimeError(f"{self.verb} without a fault fails:\n{self.log()}")
        return time.monotonic() - start


def environment(folder: Path, store_port: int | None) -> dict[str, str]:
    """The environment of the cluster and of all jobs."""
    kept = {
        key: value
        for key, value in os.environ.items()
        if not key.startswith(("RAY_", "SLLM_", "MLFLOW_", "AWS_", "PYTEST"))
    }
    own = {
        "PYTHONPATH": f"{Path(__file__).parent / 'shims'}:{REPOSITORY}",
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
        "RAY_AUTH_MODE": "disabled",  # the cluster listens on the loopback interface alone
        "RAY_USAGE_STATS_ENABLED": "0",
        "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
        "RAY_TRAIN_V2_ENABLED": "1",
        "SLLM_FAULTS_CLOCK": str(folder / "clock"),
        "OMP_NUM_THREADS": "1",
        "HF_HUB_OFFLINE": "1",
        "TOKENIZERS_PARALLELISM": "false",
        "AWS_ACCESS_KEY_ID": "faults",
        "AWS_SECRET_ACCESS_KEY": "faults",
        "AWS_DEFAULT_REGION": "us-east-1",
        "AWS_EC2_METADATA_DISABLED": "true",
    }
    if store_port is not None:
        own["AWS_ENDPOINT_URL"] = f"http://127.0.0.1:{store_port}"
    return kept | own
