"""The description of a run in MLflow, in words."""

import shlex
from collections.abc import Sequence
from pathlib import Path

from infra.provenance import command_line
from pipeline.lineage import JobRecord
from pipeline.redaction import redacted

_DOES = {
    "prepare": "Cuts a corpus into sentences and writes shards",
    "train-lm": "Trains the token-level language model",
    "train-vae": "Trains the SentenceVAE, which maps a sentence to one vector and back",
    "train-sllm": "Trains the sentence-level language model",
    "train-segmenter": "Trains the learned segmenter",
    "evaluate": "Scores models on the documents of the dev split, in bits per byte",
    "generate": "Generates text, sentence by sentence",
    "run": "Runs jobs, each of which reads what those before it wrote",
    "compare": "Scores and times designs that were trained on the same tokens",
    "graft": "Scores a SentenceVAE grafted onto a pretrained model beside that model",
    "reproduce": "Trains small configurations of a paper; scores them as its code does and exactly",
}
_INPUTS_NAMED = 8


def description(record: JobRecord) -> str:
    """What the job does, from what, who runs it, and the command; Markdown."""
    lines = [f"{_DOES.get(record.job, record.job)}."]
    named = [f"- {one.kind} {_code(Path(one.path).name or one.path)}" for one in record.inputs]
    if named:
        more = len(named) - _INPUTS_NAMED
        shown = named[:_INPUTS_NAMED] + ([f"- and {more:,} more"] if more > 0 else [])
        lines += ["", "It reads", "", *shown]
    if segmenter := record.tags.get("segmenter"):
        corpus = f" of the corpus {_code(record.tags['corpus'])}" if "corpus" in record.tags else ""
        lines += ["", f"Its sentences{corpus} were cut by {_code(segmenter)}."]
    by = f" by {_code(record.user)}" if record.user else ""
    ray = f", in the Ray job {_code(record.ray_job)}" if record.ray_job else ""
    lines += ["", f"Started{by} on {_code(record.host)}{ray}, with", "", f"    {record.command}"]
    lines += ["", "What it was made from:", "", f"    sllm lineage {shlex.quote(record.output.path)}"]
    return redacted("\n".join(line.replace("\n", " ") for line in lines))


def description_of_several(verb: str, output: str, jobs: Sequence[str]) -> str:
    """What a command with several jobs does; Markdown."""
    shown = ", ".join(jobs)
    lines = [f"{_DOES.get(verb, verb)}: {shown}. Their runs are below this one.", ""]
    lines += [f"Results that were there are reused. All are in {_code(output)}. Started with", ""]
    lines += [f"    {command_line()}"]
    return redacted("\n".join(line.replace("\n", " ") for line in lines))


def _code(text: str) -> str:
    return f"`{text.replace('`', '')}`"
