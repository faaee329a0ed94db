"""The description of a run."""

from jobs.runner.run_page.description import description
from pipeline.lineage import Artifact, JobRecord


def record(**changes):
    fields = {
        "job": "train-lm", "identity": "", "config": {}, "metrics": {}, "versions": {}, "run_id": "r",
        "inputs": (Artifact("shards", "/runs/shards", "d"),), "started": "", "finished": None,
        "output": Artifact("model", "https://me:hunter2@host/runs/lm", ""), "user": "ann", "host": "laptop",
        "command": "sllm train-lm demo output=x", "tags": {"segmenter": "fixed_v1", "corpus": "books"},
    }  # fmt: skip
    return JobRecord(**{**fields, **changes})


def test_it_says_what_from_what_by_whom_and_how():
    text = description(record())
    for part in ("token-level language model", "`shards`", "`fixed_v1`", "`books`", "`ann`", "`laptop`"):
        assert part in text
    assert "    sllm train-lm demo output=x" in text and "sllm lineage" in text
    assert "hunter2" not in text and "Ray job" not in text
    assert "in the Ray job `raysubmit_1`" in description(record(ray_job="raysubmit_1"))


def test_many_inputs_are_counted_and_names_cannot_leave_their_line():
    files = tuple(Artifact("corpus", f"/c/{i}`\n# x.txt", "d") for i in range(2000))
    text = description(record(inputs=files))
    assert text.count("- corpus") == 8 and "and 1,992 more" in text
    assert not any(line.startswith("# x") for line in text.splitlines())
