"""A manifest that does not agree with itself is damaged, and never names a file outside its folder."""

import json
from typing import Any

import pytest

from pipeline.errors import ShardError
from pipeline.shards.manifest import Identity, Manifest, ShardRecord, shard_name


def manifest() -> Manifest:
    identity = Identity(
        format_version=1,
        inputs=(),
        data={"text_field": "text"},
        segmenter={"name": "punctuation_v1"},
        tokenizer_digest="cd" * 32,
        max_sentence_tokens=64,
        work_unit_bytes=1000,
    )
    counts = {"documents": 2, "sentences": 3, "tokens": 9, "num_bytes": 30, "file_bytes": 900}
    shards = [
        ShardRecord(file=shard_name(split, index), split=split, index=index, sha256="ef" * 32, **counts)
        for split in ("train", "dev")
        for index in range(2)
    ]
    return Manifest.of(identity, 2, shards, {"empty": 1}, {})


def test_what_was_written_is_read() -> None:
    assert Manifest.parse(manifest().model_dump_json().encode(), "manifest.json") == manifest()
    assert manifest().totals["train"].tokens == 18


def twice(tree: dict[str, Any]) -> None:
    tree["shards"].append(tree["shards"][0])
    for key in tree["totals"]["train"]:
        tree["totals"]["train"][key] = tree["totals"]["train"][key] * 3 // 2


def elsewhere(tree: dict[str, Any]) -> None:
    tree["shards"][0]["file"] = "../train-00000.arrow"


def not_in_its_totals(tree: dict[str, Any]) -> None:
    tree["totals"]["train"]["tokens"] += 1


def past_the_last_split(tree: dict[str, Any]) -> None:
    tree["num_work_units"] = 1


def negative(tree: dict[str, Any]) -> None:
    tree["shards"][0]["tokens"] = -9


def no_checksum(tree: dict[str, Any]) -> None:
    tree["shards"][0]["sha256"] = "../../x"


@pytest.mark.parametrize(
    "damage", [twice, elsewhere, not_in_its_totals, past_the_last_split, negative, no_checksum]
)
def test_what_contradicts_itself_is_refused(damage: Any) -> None:
    tree = json.loads(manifest().model_dump_json())
    damage(tree)
    with pytest.raises(ShardError, match=r"runs/a/manifest.json is damaged \(\w"):
        Manifest.parse(json.dumps(tree).encode(), "runs/a/manifest.json")


@pytest.mark.parametrize("text", [b"", b"[" * 10**5, b"9" * 5000, b'{"identity": 1}', b'"\\ud800"', b"\xff"])
def test_what_is_no_json_is_refused(text: bytes) -> None:
    with pytest.raises(ShardError, match="damaged"):
        Manifest.parse(text, "manifest.json")
