"""The folder at a URL has the rules of a local one: what may be written, what is kept, what is removed."""

import shutil
import tempfile
from pathlib import Path

import fsspec
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from jobs.runner.output.checks import OutputFolder
from jobs.runner.output.local import LocalOutputFolder
from jobs.runner.output.remote import RemoteOutputFolder
from pipeline.errors import ConfigError
from pipeline.lineage import Artifact, JobRecord
from pipeline.output_files import FILES

NAMES = (
    *(
        "config.json",
        "model.safetensors",
        "notes.txt",
        "evaluation.json",
        "comparison.svg",
        ".hidden",
        "mlflow.db",
    ),
    *(
        "manifest.json",
        "train-00000.arrow",
        "progress/plan.json",
        "tokenizer/tokenizer.json",
        "tokenizer/mine.txt",
    ),
    *(
        "corpus/python-docs.jsonl",
        "corpus/mine.jsonl",
        "other/job.json",
        "other/model.safetensors",
        "other/deep/x",
    ),
    *("folder/mine.txt", "folder/.hidden", "checkpoints/notes.txt", "checkpoints/step-000000001/notes.txt"),
    *("checkpoints/step-000000001/training_state.json", "checkpoints/step-000000001/model/config.json"),
    *("checkpoints/step-000000002/state-00000-of-00001.safetensors", "checkpoints/mine/training_state.json"),
    *("checkpoints/checkpoint_2026/training_state.json", "checkpoints/checkpoint_manager_snapshot.json"),
)
URL = "memory://rules/out"


def content_of(name: str) -> bytes:
    return b'{"tokenizer_digest": "x"}' if name in ("manifest.json", "progress/plan.json") else name.encode()


def outcome(
    folder: OutputFolder, earlier: JobRecord | None, inputs: list[Artifact], force: bool
) -> tuple[str, dict[str, int]]:
    """The remedy of the refusal, or nothing; the files that count as the job's; and removes those of `earlier`."""
    refused = ""
    try:
        folder.check(earlier, [artifact.path for artifact in inputs], force)
    except ConfigError as error:
        refused = str(error).rpartition(": ")[2]
    written = folder.written(inputs)
    if earlier is not None:
        folder.remove(earlier, inputs)
    return refused, written


@settings(max_examples=150)
@given(
    names=st.sets(st.sampled_from(NAMES), max_size=8),
    kind=st.sampled_from(sorted(FILES)),
    before=st.sampled_from([None, "finished", "unfinished"]),
    earlier_kind=st.sampled_from(sorted(FILES)),
    listed=st.sets(st.sampled_from(NAMES)),
    force=st.booleans(),
    read=st.sampled_from([None, "corpus/mine.jsonl", "folder/mine.txt", "notes.txt", ""]),
)
@example({"model.safetensors"}, "model", None, "model", set(), True, None)
@example({"manifest.json", "notes.txt"}, "shards", None, "shards", set(), False, None)
def test_a_folder_at_a_url_has_the_rules_of_a_local_one(
    names: set[str],
    kind: str,
    before: str | None,
    earlier_kind: str,
    listed: set[str],
    force: bool,
    read: str | None,
) -> None:
    system = fsspec.filesystem("memory")
    local = Path(tempfile.mkdtemp())
    try:
        outcomes = []
        for root, folder in (
            (str(local), LocalOutputFolder(str(local), kind)),
            (URL, RemoteOutputFolder(URL, kind)),
        ):
            for name in names:
                if root == URL:
                    system.pipe_file(f"/rules/out/{name}", content_of(name))
                else:
                    (local / name).parent.mkdir(parents=True, exist_ok=True)
                    (local / name).write_bytes(content_of(name))
            inputs = [] if read is None else [Artifact("corpus", f"{root}/{read}".rstrip("/"), "d")]
            record = None
            if before is not None:
                record = JobRecord(
                    job="x", identity="", config={}, inputs=(), run_id="r", metrics={}, versions={}, started="s",
                    output=Artifact(earlier_kind, root, "", "r"), finished="f" if before == "finished" else None,
                    files=dict.fromkeys(listed, 1) if before == "finished" else {},
                )  # fmt: skip
            outcomes.append(outcome(folder, record, inputs, force))
        assert outcomes[0] == outcomes[1]
        left = {file.relative_to(local).as_posix() for file in local.rglob("*") if file.is_file()}
        there = system.find("/rules/out") if system.exists("/rules/out") else []
        assert left == {path.removeprefix("/rules/out/") for path in there}
    finally:
        shutil.rmtree(local)
        if system.exists("/rules"):
            system.rm("/rules", recursive=True)


def test_a_record_at_a_url_has_no_secret_of_the_url() -> None:
    url = "memory://user:hunter2@rules/out"
    folder = RemoteOutputFolder(url, "report")
    record = JobRecord(
        job="evaluate", identity="", config={}, inputs=(), output=Artifact("report", url, "", "r"), run_id="r",
        metrics={}, versions={}, started="s", finished=None,
    )  # fmt: skip
    folder.write(record)
    system = fsspec.filesystem("memory")
    (path,) = system.find(system._strip_protocol(url))
    assert b"hunter2" not in system.cat_file(path) and folder.read() == record
    assert folder.left_something([]), "another job may be at its start: there is no lock"
    system.rm_file(path)


@pytest.mark.parametrize("url", ["http://host/x", "https://host/x"])
def test_a_web_server_is_not_written_to(url: str) -> None:
    from pipeline.remote import StorageError

    with pytest.raises(StorageError, match="which is not written to: name a folder"):
        RemoteOutputFolder(url, "model")
