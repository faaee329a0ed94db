import json

from pipeline.shards.manifest import Identity, InputFile, Manifest, ShardRecord
from tests.fuzz.mutations import mutated, mutated_tree


def manifest() -> Manifest:
    identity = Identity(
        format_version=1,
        inputs=(InputFile(name="a.jsonl", path="/c/a.jsonl", sha256="ab" * 32, num_bytes=9, is_dev=False),),
        data={"text_field": "text", "filters": [], "max_bytes": None},
        segmenter={"name": "punctuation_v1", "options": {}, "weights": None},
        tokenizer_digest="cd" * 32,
        max_sentence_tokens=64,
        work_unit_bytes=1000,
    )
    records = [
        ShardRecord(
            file=f"{split}-{index:05d}.arrow",
            split=split,
            index=index,
            documents=2,
            sentences=3,
            tokens=9,
            num_bytes=30,
            file_bytes=900,
            sha256="ef" * 32,
        )
        for split in ("train", "dev")
        for index in range(2)
    ]
    return Manifest.of(identity, 2, records, {"empty": 1}, {"length": 2})


def test_a_manifest_is_read_or_refused(fuzz):
    whole = manifest().model_dump_json().encode()
    tree = json.loads(whole)
    other = manifest().identity

    def make(rng):
        if rng.random() < 0.3:
            return mutated(rng, [whole])
        return json.dumps(mutated_tree(rng, tree)).encode()

    def check(data):
        found = Manifest.parse(data, "runs/shards/manifest.json")
        again = Manifest.parse(found.model_dump_json().encode(), "x")
        assert (again.shards, again.totals) == (found.shards, found.totals)
        assert all(isinstance(line, str) for line in found.identity.differences(other))
        for split, totals in found.totals.items():
            of_split = [record for record in found.shards if record.split == split]
            assert sum(record.tokens for record in of_split) == totals.tokens >= 0
        assert all("/" not in record.file for record in found.shards)

    fuzz("manifest", make, check)
