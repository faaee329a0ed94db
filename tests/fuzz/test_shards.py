"""Shards whose bytes, or whose manifest, are damaged: they are refused, or read as what they say."""

import contextlib
import itertools
import json
from pathlib import Path

import numpy as np
import pytest

from infra.storage import Folder
from jobs import inspect
from jobs.prepare import prepare
from pipeline.config import load_config
from pipeline.lineage import MANIFEST_NAME
from pipeline.shards.manifest import PROGRESS, Manifest
from pipeline.shards.output import ShardOutput
from pipeline.shards.reading import Shards, open_shards
from pipeline.shards.store import stored_tokenizer
from pipeline.stream.order import Corpus, Stream, StreamState
from pipeline.stream.windows import SentenceWindows, TokenWindows
from tests.fuzz.mutations import mutated, mutated_tree

CUT_SIZE = 200


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A corpus, its shards, and a folder where they are unfinished."""
    root = tmp_path_factory.mktemp("shards")
    rows = [{"id": f"d{i}", "text": f"Document {i}. " + "And one. " * i} for i in range(12)] + [
        {"id": "x"}
    ] * 2
    (root / "a.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    prepare(config_of(root), str(root / "out"))
    return root


def config_of(root: Path):
    options = [
        "data.dev_fraction=0.3",
        "data.max_rejected_fraction=1",
        "launcher=local",
        "prepare.num_workers=1",
    ]
    inputs = f"data.inputs=[{root}/a.jsonl]"
    return load_config(None, [inputs, *options, "prepare.work_unit_bytes=500", "tokenizer.vocab_size=300"])


def files_of(folder: Path) -> dict[str, bytes]:
    return {str(file.relative_to(folder)): file.read_bytes() for file in folder.rglob("*") if file.is_file()}


def use(shards: Shards) -> None:
    """What training, evaluation and inspection read of shards."""
    for split in ("train", "dev"):
        documents = shards.documents(split)
        assert documents.num_documents == shards.manifest.totals[split].documents
        if documents.num_documents == 0:
            continue
        assert len(documents.sentence_lengths) == documents.sentence_starts_N1[-1]
        assert documents.num_bytes_N.min() >= 0 and documents.token_counts_N.min() >= 0
        for index in range(documents.num_documents):
            assert isinstance(documents.doc_ids(index), str)
            start, end = documents.token_starts_N1[index : index + 2].tolist()
            lengths = documents.sentence_lengths[slice(*documents.sentence_starts_N1[index : index + 2])]
            assert len(documents.tokens(start, end)) == lengths.sum(dtype=np.int64) == end - start
        windows = [
            SentenceWindows(documents, 4, 1, 2),
            SentenceWindows(documents, 4, 1, 2, overlap=2, decoded_context_positions=8),
            TokenWindows(documents, 16, 1, 2),
        ]
        for source in windows:
            stream = Stream([Corpus.of(source)], micro_batch_tokens=64, seed=0)
            for micro_batch, _ in itertools.islice(stream.micro_batches(StreamState()), 3):
                micro_batch.batch()
    inspect.shard_summary(shards, set())


def test_a_shard_is_read_or_refused(fuzz, root):
    folder = fuzz.folder
    manifest = open_shards(str(root / "out")).manifest
    whole = {record.file: (root / "out" / record.file).read_bytes() for record in manifest.shards}
    chosen = {
        split: next(record for record in manifest.shards if record.split == split)
        for split in ("train", "dev")
    }

    def make(rng):
        damaged = mutated(rng, [whole[record.file] for record in chosen.values()], most=3)
        return damaged

    def check(content):
        # The manifest knows its size, as after damage that leaves it as it was.
        records = tuple(record.model_copy(update={"file_bytes": len(content)}) for record in chosen.values())
        for record in records:
            (folder / record.file).write_bytes(content)
        for record in records:
            totals = {
                "train": manifest.totals["train"].model_copy(update=record.model_dump(include=COUNTS)),
                "dev": manifest.totals["dev"].model_copy(update=dict.fromkeys(COUNTS, 0)),
            }
            one = record.model_copy(update={"split": "train"})
            use(Shards(str(folder), manifest.model_copy(update={"shards": (one,), "totals": totals})))

    fuzz("shard", make, check)


COUNTS = {"documents", "sentences", "tokens", "num_bytes"}


def test_shards_of_a_damaged_manifest_are_read_or_refused(fuzz, root):
    folder = fuzz.folder
    files = files_of(root / "out")
    tree = json.loads(files[MANIFEST_NAME])
    for name, content in files.items():
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_bytes(content)

    def check(content):
        (folder / MANIFEST_NAME).write_bytes(content)
        shards = open_shards(str(folder))
        shards.verify()
        use(shards)

    fuzz("shards of another manifest", lambda rng: json.dumps(mutated_tree(rng, tree)).encode(), check)


def test_what_a_rerun_finds_is_used_or_refused(fuzz, root):
    folder = fuzz.folder / "out"
    finished = files_of(root / "out")
    output = ShardOutput(Folder(str(folder)))
    whole = Manifest.parse(finished[MANIFEST_NAME], "")
    work_units = ShardOutput(Folder(str(root / "out"))).open(
        whole.identity, whole.num_work_units, overwrite=False
    )
    unfinished = {name: content for name, content in finished.items() if name != MANIFEST_NAME} | {
        f"{PROGRESS}/plan.json": whole.identity.model_dump_json().encode(),
        **{f"{PROGRESS}/{index:05d}.json": one.to_json() for index, one in work_units.items()},
    }

    def make(rng):
        files = dict(rng.choice([finished, unfinished]))
        for _ in range(rng.choice([1, 1, 2])):
            name = rng.choice(
                [name for name in sorted(files) if name.endswith((".json", ".jsonl", ".arrow", ".sha256"))]
            )
            content = files[name]
            if name.endswith(".json") and name.startswith((PROGRESS, MANIFEST_NAME)) and rng.random() < 0.6:
                with contextlib.suppress(ValueError):  # of one that is damaged already
                    files[name] = json.dumps(mutated_tree(rng, json.loads(content))).encode()
            elif rng.random() < 0.9:
                files[name] = mutated(rng, [content])
            else:
                del files[name]
        return {name: content.decode("latin-1") for name, content in files.items()}

    def check(files):
        for name in output.store.names():
            (folder / name).unlink()
        for name, content in files.items():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / name).write_bytes(content.encode("latin-1"))
        overwrite = len(files) % 2 == 0
        kept = output.open(whole.identity, whole.num_work_units, overwrite)
        stored_tokenizer(output.store)
        for index, work_unit in kept.items():
            assert 0 <= index < whole.num_work_units
            files = [(record.file, record.sha256) for record in work_unit.shards]
            assert files in ([], [(record.file, record.sha256) for record in work_units[index].shards])
            output.id_hashes(work_unit)
        output.write_rejections(kept)

    fuzz("progress", make, check)
