"""A folder in which the commands of pages run one after the other, with small sizes, in this process."""

import contextlib
import dataclasses
import gzip
import json
import os
import random
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from unittest import mock

from typer.testing import CliRunner

from jobs import cli
from jobs.verbs import VERBS
from tests.docs.pages import REPOSITORY, Block

TRAIN = {
    **{
        "steps": 2,
        "micro_batch_tokens": 256,
        "micro_batches_per_step": 2,
        "warmup_steps": 1,
        "eval_every": 2,
    },
    **{"eval_micro_batches": 1, "checkpoint_every": 2, "log_every": 1},
}
MODELS = [
    *(f"{model}.train.{key}={value}" for model in ("lm", "vae", "sllm") for key, value in TRAIN.items()),
    *("lm.context_tokens=64", "sllm.context_sentences=8"),
]
SMALL = [
    *("launcher=local", "prepare.num_workers=1", "data.max_bytes=30000", "data.dev_fraction=0.15"),
    *("tokenizer.vocab_size=300", "generate.max_sentences=2", "generate.max_tokens=16"),
    *(
        "compare.tokens=2000",
        "compare.only=[token-level-1-layer]",
        "compare.repeats=1",
        "compare.batch_sizes=[1]",
    ),
    *(
        "compare.generated_tokens=8",
        "compare.baseline=token-level-1-layer",
        "reproduce.tokens=300",
        "reproduce.only=[125M-H1]",
        "reproduce.rules_alone=[]",
        "segmenter_training.steps=2",
        "segmenter_training.unpunctuated_steps=2",
    ),
]
"""Overrides at the end of every job, so that they hold: the commands are those of the page, the sizes are not. Designs
of a comparison have their models from presets, so `MODELS` is for the other jobs."""
SAME_HERE = {"step-000000200": "step-000000002", "step-000000400": "step-000000002"}
"""Names that follow from sizes."""
FAKES = ("kubectl", "mlflow", "curl", "sbatch", "squeue", "docker", "ray", "pip", "git", "pre-commit")
"""Programs that are not started, as they want a cluster, a network or another checkout; files that they read must
be there."""
FILES = ("Dockerfile", ".yaml", ".sbatch", ".txt", ".json")
"""Names and ends of names of files that such a program reads."""
WORDS = (
    "the",
    "a",
    "lazy",
    "quick",
    "old",
    "dog",
    "fox",
    "river",
    "house",
    "sleeps",
    "runs",
    "sees",
    "over",
    "near",
)


@dataclasses.dataclass
class World:
    """One working folder and its environment."""

    folder: Path
    environment: dict[str, str]
    seen: dict[Block, str] = dataclasses.field(default_factory=dict)
    """Blocks that were run, and the error of each: empty if it ended well."""

    def write_file(self, block: Block) -> None:
        """Write a block whose title is the name of a file."""
        path = self.folder / block.title
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(block.text, encoding="utf-8")

    def upload_to(self, store: Any) -> None:
        """Make the bucket `bucket` in an object store, with the folder `books`."""
        store.mkdir("bucket")
        store.put(str(self.folder / "books"), "bucket/books", recursive=True)

    def run(self, block: Block) -> None:
        """Run the commands of a block; the first one that fails ends it."""
        self.seen[block] = ""
        for command in block.commands:
            if error := self._run(command):
                self.seen[block] = f"{command}\n{error}"
                return

    def _run(self, command: str) -> str:
        for name, here in SAME_HERE.items():
            command = command.replace(name, here)
        words = shlex.split(command, comments=True)
        if words[0] == "export":
            self.environment |= dict(word.split("=", 1) for word in words[1:])
            return ""
        if words[0] == "make":
            return self._make(words[1:])
        if Path(words[0]).name in FAKES or (REPOSITORY / words[0]).is_file():
            files = [word for word in words[1:] if Path(word).name in FILES or Path(word).suffix in FILES]
            missing = [file for file in files if not self._has(file)]
            return f"not there: {missing}" if missing else ""
        if words[0] != "sllm":
            return self._bash(command)
        to = words.index(">") if ">" in words else len(words)
        code, stdout, stderr = self.sllm(words[1:to])
        if code == 0 and to < len(words):
            (self.folder / words[to + 1]).write_text(stdout, encoding="utf-8")
        return "" if code == 0 else f"exit code {code}\n{stdout[-2000:]}{stderr[-2000:]}"

    def _has(self, name: str) -> bool:
        return (self.folder / name).exists() or (REPOSITORY / name).exists()

    def _bash(self, command: str) -> str:
        done = subprocess.run(
            ["bash", "-euc", command],
            cwd=self.folder,
            env=os.environ | self.environment,
            capture_output=True,
            text=True,
            timeout=120,
        )
        return "" if done.returncode == 0 else f"exit code {done.returncode}\n{done.stderr[-2000:]}"

    def _make(self, words: list[str]) -> str:
        """Look whether the targets are there, and run the commands of sllm among their recipes."""
        dry = subprocess.run(
            ["make", "-n", *words], cwd=REPOSITORY, capture_output=True, text=True, timeout=60
        )
        if dry.returncode != 0:
            return dry.stderr
        for line in dry.stdout.splitlines():
            if line.startswith(".venv/bin/sllm ") and (error := self._run(line.removeprefix(".venv/bin/"))):
                return error
        return ""

    def sllm(self, words: list[str]) -> tuple[int, str, str]:
        """Run `sllm WORDS`: exit code, stdout, stderr."""
        verb = VERBS[next(word for word in words if not word.startswith("-"))]
        if not verb.has_own_arguments:
            words = [*words, *([] if "compare" in words else MODELS), *SMALL]
        with self.inside():
            result = CliRunner().invoke(cli.app, words)
        if result.exception is not None and not isinstance(result.exception, SystemExit):
            return 1, result.stdout, f"{result.stderr}\n{result.exception!r}"
        return result.exit_code, result.stdout, result.stderr

    def arguments_error(self, command: str) -> str:
        """What is wrong with the arguments of a command of ours, without running it; empty: nothing."""
        words = shlex.split(command, comments=True)
        while words and re.fullmatch(r"\w+=.*", words[0]):
            words = words[1:]
        if not words or words[0] != "sllm":
            return ""
        words = words[1 : words.index(">") if ">" in words else len(words)]
        if words[0] not in VERBS:
            return f"there is no verb {words[0]}"
        nothing = mock.patch("typer.core.TyperCommand.invoke", lambda _self, _context: None)
        if not VERBS[words[0]].has_own_arguments:
            words = [word for word in words if word != "--detach"] + [
                "--dry-run"
            ]  # resolves the configuration
            nothing = contextlib.nullcontext()
        with self.inside(), nothing:
            result = CliRunner().invoke(cli.app, words)
        return "" if result.exit_code == 0 else result.stderr or repr(result.exception)

    @contextlib.contextmanager
    def inside(self) -> Iterator[None]:
        """The working folder and its environment, for what runs in this process."""
        modules = mock.patch.object(sys, "path", [*sys.path, str(self.folder)])
        with contextlib.chdir(self.folder), mock.patch.dict(os.environ, self.environment), modules:
            yield


def texts(seed: int) -> list[str]:
    """60 texts of random sentences, 5 to 20 of them, of 3 to 9 words."""
    chosen = random.Random(seed)

    def sentence() -> str:
        return " ".join(chosen.choices(WORDS, k=chosen.randint(3, 9))).capitalize() + chosen.choice(".!?")

    return [" ".join(sentence() for _ in range(chosen.randint(5, 20))) for _ in range(60)]


def new_world(folder: Path, empty_store: Path) -> World:
    """A working folder with small files under the names that the pages use."""
    (folder / "runs").mkdir()
    shutil.copy(empty_store, folder / "runs" / "mlflow.db")
    (folder / "books").mkdir()
    for number, name in enumerate(("docs.jsonl.gz", "books/novel.jsonl.gz", "books/tales.jsonl.gz")):
        rows = [
            json.dumps({"id": f"{name}/{n}", "text": text}) + "\n" for n, text in enumerate(texts(number))
        ]
        (folder / name).write_bytes(gzip.compress("".join(rows).encode(), mtime=0))
    (folder / "my.txt").write_text("\n\n".join(texts(3)), encoding="utf-8")
    gold = [{"text": "It rains. We stay.", "ends": [10, 18]}, {"text": "Go on! Now.", "ends": [7, 11]}] * 20
    (folder / "mine.jsonl").write_text("".join(json.dumps(one) + "\n" for one in gold))
    return World(folder, {})
