"""What a rerun finds in its output: finished work is kept, damage is made anew or refused."""

import hashlib
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from infra.storage import Folder
from pipeline.corpus import Rejection
from pipeline.errors import ShardError
from pipeline.lineage import MANIFEST_NAME
from pipeline.shards.format import REJECTED
from pipeline.shards.manifest import PROGRESS, Identity, ShardRecord, shard_name
from pipeline.shards.output import FinishedWorkUnit, ShardOutput
from pipeline.shards.store import stored_tokenizer
from pipeline.shards.writing import EncodedDocument, shard_bytes
from pipeline.tokenization.tokenizer import Tokenizer

TOKENIZER = Tokenizer.train(["a b"], 260)
IDENTITY = Identity(
    format_version=1,
    inputs=(),
    data={},
    segmenter={},
    tokenizer_digest="ab" * 32,
    max_sentence_tokens=4,
    work_unit_bytes=9,
)


def write_work_unit(output: ShardOutput, index: int) -> FinishedWorkUnit:
    tokens, lengths = np.arange(3, dtype=np.int32), np.array([1, 2], np.int32)
    buffer = shard_bytes([EncodedDocument(f"d{index}", tokens, lengths, 7)], {})
    counts = {"documents": 1, "sentences": 2, "tokens": 3, "num_bytes": 7, "file_bytes": buffer.size}
    digest = hashlib.sha256(buffer).hexdigest()
    record = ShardRecord(file=shard_name("train", index), split="train", index=index, sha256=digest, **counts)
    output.store.write(record.file, buffer)
    work_unit = FinishedWorkUnit((record,), (Rejection("a.jsonl", "line 3", "empty"),))
    output.write_work_unit(index, work_unit)
    return work_unit


@pytest.fixture
def output(tmp_path: Path) -> ShardOutput:
    """Two work units are finished, and the job is not."""
    output = ShardOutput(Folder(str(tmp_path / "out")))
    output.begin(IDENTITY, TOKENIZER, "trained on this")
    for index in range(2):
        write_work_unit(output, index)
    return output


@pytest.fixture
def finished(output: ShardOutput) -> ShardOutput:
    """Two work units, and a manifest."""
    found = output.open(IDENTITY, 2, overwrite=False)
    output.write_rejections(found)
    output.finish(IDENTITY, found, TOKENIZER)
    return output


def test_what_is_finished_is_found_again(output: ShardOutput) -> None:
    found = output.open(IDENTITY, 2, overwrite=False)
    assert [len(found[index].rejections) for index in range(2)] == [1, 1]
    output.write_rejections(found)
    output.finish(IDENTITY, found, TOKENIZER)
    assert output.open(IDENTITY, 2, overwrite=False) == found


@pytest.mark.parametrize(
    "text", ["", "[]", '{"shards": [], "rejections": [{}]}', '{"shards": 1}', "[" * 10**5]
)
def test_damaged_progress_is_refused(output: ShardOutput, text: str) -> None:
    output.store.write(f"{PROGRESS}/00001.json", text.encode())
    with pytest.raises(ShardError, match="cannot be continued"):
        output.open(IDENTITY, 2, overwrite=False)
    assert output.open(IDENTITY, 2, overwrite=True) == {}


@pytest.mark.parametrize("damage", [lambda shards: shards * 2, lambda shards: shards[:-1]])
def test_progress_that_lists_more_or_fewer_shards_is_refused(output: ShardOutput, damage: Any) -> None:
    tree = json.loads(output.store.read(f"{PROGRESS}/00000.json") or b"")
    tree["shards"] = damage(tree["shards"])
    output.store.write(f"{PROGRESS}/00000.json", json.dumps(tree).encode())
    with pytest.raises(ShardError, match="cannot be continued"):
        output.open(IDENTITY, 2, overwrite=False)


def test_a_work_unit_is_not_finished_by_the_shards_of_another(output: ShardOutput) -> None:
    output.store.write(f"{PROGRESS}/00001.json", output.store.read(f"{PROGRESS}/00000.json") or b"")
    with pytest.raises(ShardError, match="another work unit"):
        output.open(IDENTITY, 2, overwrite=False)


def test_a_work_unit_that_the_corpus_does_not_have_is_not_counted(output: ShardOutput) -> None:
    write_work_unit(output, 7)
    assert set(output.open(IDENTITY, 2, overwrite=False)) == {0, 1}


@pytest.mark.parametrize("line", ["{}", "[1]", '{"work_unit_index": "x"}', "[" * 10**5])
def test_damaged_rejections_are_refused(finished: ShardOutput, line: str) -> None:
    finished.store.write(REJECTED, (finished.store.read(REJECTED) or b"") + line.encode())
    with pytest.raises(ShardError, match="cannot be continued"):
        finished.open(IDENTITY, 2, overwrite=False)


def test_a_manifest_of_another_number_of_work_units_is_made_anew(finished: ShardOutput) -> None:
    tree = json.loads(finished.store.read(MANIFEST_NAME) or b"")
    finished.store.write(MANIFEST_NAME, json.dumps({**tree, "num_work_units": 10**15}).encode())
    assert finished.open(IDENTITY, 2, overwrite=False) == {}
    assert MANIFEST_NAME not in finished.store.names()


@pytest.mark.parametrize("name", ["tokenizer.json", "tokenizer_config.json"])
def test_a_damaged_tokenizer_is_none(output: ShardOutput, name: str) -> None:
    assert stored_tokenizer(output.store, "trained on this") is not None
    output.store.write(f"tokenizer/{name}", b"{")
    assert stored_tokenizer(output.store, "trained on this") is None
