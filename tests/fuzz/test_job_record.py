import json
from pathlib import Path

from jobs.lineage.terminal import tree_of
from jobs.lineage.walk import walk_back
from jobs.runner.output.local import LocalOutputFolder
from pipeline.config import Config
from pipeline.lineage import (
    RECORD_NAME,
    Artifact,
    JobRecord,
    artifact_of,
    parse_record,
    read_record,
    record_text,
)
from tests.fuzz.mutations import mutated, mutated_tree


def record(output: Path, inputs: list[Artifact]) -> JobRecord:
    config = Config().model_dump(mode="json")
    return JobRecord(
        job="prepare",
        identity="ab" * 32,
        config={name: config[name] for name in ("segmenter", "tokenizer", "tracking", "data")},
        inputs=tuple(inputs),
        output=Artifact("shards", str(output), "cd" * 32, "run-1"),
        run_id="run-1",
        metrics={"train/tokens": 12.0, "seconds": 0.5},
        versions={"sllm": "0.1.0", "git": "0123456789abcdef+1"},
        started="2026-01-01T00:00:00+00:00",
        finished="2026-01-01T00:00:01+00:00",
        files={"manifest.json": 3, "tokenizer/tokenizer.json": 3},
    )


def damaged(rng, whole: bytes) -> bytes:
    if rng.random() < 0.3:
        return mutated(rng, [whole])
    return json.dumps(mutated_tree(rng, json.loads(whole))).encode()


def test_a_record_is_read_or_refused(fuzz):
    folder = fuzz.folder / "output"
    (folder / "tokenizer").mkdir(parents=True)
    outside = fuzz.folder / "precious"
    outside.write_text("kept")
    whole = record_text(record(folder, [Artifact("corpus", "/c/a.jsonl", "ef" * 32)])).encode()
    output = LocalOutputFolder(str(folder), "model")

    def check(content):
        found = parse_record(content, str(folder))
        assert parse_record(record_text(found).encode(), str(folder)) == found or found != found
        assert found.output.path == str(folder)
        (folder / "tokenizer").mkdir(parents=True, exist_ok=True)
        for name in ("manifest.json", "tokenizer/tokenizer.json"):
            (folder / name).write_text("abc")
        assert found.output_is_whole in (True, False) and output.is_whole(found) == found.output_is_whole
        output.remove(found, found.inputs)
        assert outside.read_text() == "kept"

    fuzz("job record", lambda rng: damaged(rng, whole), check)


def test_lineage_is_walked_or_refused(fuzz):
    shards, model = fuzz.folder / "shards", fuzz.folder / "model"
    corpus = fuzz.folder / "a.jsonl"
    for folder in (shards, model):
        folder.mkdir()
    corpus.write_text("{}")
    of_shards = record(shards, [Artifact("corpus", str(corpus), "ef" * 32)])
    of_model = record(model, [of_shards.output])
    whole = {folder: record_text(one).encode() for folder, one in ((shards, of_shards), (model, of_model))}
    tracking = f"sqlite:///{fuzz.folder}/none.db"

    def make(rng):
        return {
            str(folder): damaged(rng, content) if rng.random() < 0.6 else content
            for folder, content in whole.items()
        }

    def check(contents):
        for folder, content in contents.items():
            (Path(folder) / RECORD_NAME).write_bytes(content)
        read_record(model)
        step = walk_back(artifact_of(model), tracking)
        assert tree_of(step)

    fuzz("lineage", make, check)
