"""Private modules of the working folder are found, and its folders do not hide our packages."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from pipeline.lineage import read_record

REPOSITORY = Path(__file__).parents[3]
SEGMENTER = '''
import dataclasses

import numpy as np

from segmenters import Segmenter


@dataclasses.dataclass(frozen=True)
class Lines(Segmenter):
    """A sentence ends with its line."""

    name = "lines_v1"

    def split(self, texts):
        lines = [[len(line) for line in text.splitlines(keepends=True)] for text in texts]
        return [np.cumsum(each, dtype=np.int64) for each in lines]
'''
CONSOLE_SCRIPT = "from jobs.cli import main\n\nif __name__ == '__main__':\n    main()\n"
DOCUMENTS = 60
FOLDERS = ("infra", "pipeline", "segmenters", "tests", "jobs")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A working folder with a private segmenter, and folders named as our packages."""
    folder = tmp_path / "work"
    for name in FOLDERS:
        (folder / name).mkdir(parents=True)
        (folder / name / "__init__.py").write_text(f"raise SystemExit('the user\\'s {name} was imported')\n")
    (folder / "my_module.py").write_text(SEGMENTER)
    texts = [f"First {number}. Still\nsecond\n" for number in range(DOCUMENTS)]
    rows = [json.dumps({"id": str(number), "text": text}) for number, text in enumerate(texts)]
    (folder / "corpus.jsonl").write_text("\n".join(rows))
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "sllm").write_text(CONSOLE_SCRIPT)
    return folder


def prepared(folder: Path, program: list[str], tracking_uri: str, *options: str) -> int:
    """Sentences of the corpus as `PROGRAM prepare` in the folder cuts it."""
    arguments = [
        *(
            "prepare",
            "data.inputs=[corpus.jsonl]",
            "output=out",
            "tokenizer.vocab_size=300",
            "data.dev_fraction=0",
        ),
        *("segmenter.name=my_module:Lines", "prepare.num_workers=2", "prepare.work_unit_bytes=2000"),
        f"tracking.uri={tracking_uri}",
    ]
    environment = {**os.environ, "PYTHONPATH": str(REPOSITORY), "SLLM_DEBUG": "1"}
    environment.pop("PYTHONSAFEPATH", None)
    done = subprocess.run(
        [sys.executable, *program, *arguments, *options],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        timeout=500,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    record = read_record(folder / "out")
    assert record is not None and "my_module:Lines" in [artifact.path for artifact in record.inputs]
    return int(record.metrics["train/sentences"])


def test_the_console_command_with_worker_processes(folder, tracking_uri):
    script = str(folder.parent / "bin" / "sllm")
    assert prepared(folder, [script], tracking_uri, "launcher=local") == 2 * DOCUMENTS


def test_the_module_with_ray_workers(folder, tracking_uri, ray_cluster):
    """`python -m jobs` finds the user's `jobs/` first, which Python decides before it runs any line of ours; the others
    hide nothing."""
    (folder / "jobs" / "__init__.py").unlink()
    (folder / "jobs").rmdir()
    found = prepared(folder, ["-m", "jobs"], tracking_uri, "launcher=ray", f"ray.address={ray_cluster}")
    assert found == 2 * DOCUMENTS


def test_a_checkout_is_searched_as_python_does(monkeypatch, tmp_path):
    from jobs.cli.import_path import set_import_path

    monkeypatch.chdir(REPOSITORY)
    before = list(sys.path)
    set_import_path()
    assert sys.path == before
    monkeypatch.setattr(sys, "path", ["", *before])
    monkeypatch.chdir(tmp_path)
    set_import_path()
    assert sys.path[-1] == str(tmp_path) and sys.path.index(str(REPOSITORY)) < len(sys.path) - 1
    assert "" not in sys.path


def test_another_checkout_hides_the_code_that_runs_but_is_sent_with_a_job(tmp_path):
    from infra.own_packages import hides_ours, is_checkout, shadowing

    assert not hides_ours(REPOSITORY) and is_checkout(REPOSITORY)
    for name in (
        "segmenters/__init__.py",
        "pipeline/__init__.py",
        "pipeline/lineage.py",
        "infra/__init__.py",
    ):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    assert hides_ours(tmp_path) and shadowing(tmp_path) == ["segmenters", "pipeline", "infra"]
    (tmp_path / "jobs").mkdir()
    for name in ("__init__.py", "verbs.py"):
        (tmp_path / "jobs" / name).touch()
    assert hides_ours(tmp_path) and shadowing(tmp_path) == []
