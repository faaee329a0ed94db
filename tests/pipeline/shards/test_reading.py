import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from infra.storage import Folder
from jobs.prepare import prepare
from pipeline.config import Config, load_config
from pipeline.errors import ShardError
from pipeline.lineage import digest_file
from pipeline.shards.format import SCHEMA
from pipeline.shards.manifest import SHARD_FORMAT_VERSION
from pipeline.shards.reading import Shards, check_tokenizer, open_shards
from pipeline.tokenization.tokenizer import Tokenizer

TEXTS = [f"Document {i}. It has {i} more sentences. " + "And one. " * i for i in range(30)]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Shards of 30 documents, a third of them dev."""
    root = tmp_path_factory.mktemp("shards")
    rows = "".join(json.dumps({"id": f"d{i}", "text": text}) + "\n" for i, text in enumerate(TEXTS))
    (root / "a.jsonl").write_text(rows)
    prepare(make_config(root), str(root / "out"))
    return root / "out"


def make_config(root: Path) -> Config:
    return load_config(
        None,
        [
            f"data.inputs=[{root}/a.jsonl]",
            "data.dev_fraction=0.3",
            "launcher=local",
            "prepare.num_workers=1",
            "prepare.work_unit_bytes=1000",
            "tokenizer.vocab_size=300",
        ],
    )


def test_documents_are_what_was_prepared(folder: Path) -> None:
    shards = open_shards(str(folder))
    tokenizer = shards.tokenizer()
    seen = {}
    for split in ("train", "dev"):
        documents = shards.documents(split)
        totals = shards.manifest.totals[split]
        assert documents.num_documents == totals.documents == len(documents.num_bytes_N) > 1
        assert documents.token_starts_N1[-1] == documents.token_counts_N.sum() == totals.tokens
        assert documents.sentence_starts_N1[-1] == len(documents.sentence_lengths) == totals.sentences
        for i in range(documents.num_documents):
            start, end = documents.token_starts_N1[i : i + 2]
            ids = documents.tokens(start, end)
            assert ids.dtype == np.int32 and len(ids) == documents.token_counts_N[i]
            lengths = documents.sentence_lengths[slice(*documents.sentence_starts_N1[i : i + 2])]
            assert lengths.sum() == len(ids) and len(lengths) == documents.sentence_counts_N[i]
            text = tokenizer.decode(ids)
            assert documents.num_bytes_N[i] == len(text.encode())
            assert np.array_equal(documents.tokens(start + 1, end), ids[1:])
            assert len(documents.tokens(end, end)) == 0
            seen[documents.doc_ids(i)] = text
    assert seen == {f"d{i}": text for i, text in enumerate(TEXTS)}


def test_tokens_are_not_copied(folder: Path) -> None:
    before = pa.total_allocated_bytes()
    documents = open_shards(str(folder)).documents("train")
    tokens = documents.tokens(0, 5)
    assert not tokens.flags.owndata and not tokens.flags.writeable
    assert pa.total_allocated_bytes() == before


def test_others_read_the_shards_as_they_are(folder: Path, tmp_path: Path) -> None:
    import datasets
    import polars

    datasets.disable_progress_bars()
    files = sorted(map(str, folder.glob("train-*.arrow")))
    assert len(files) > 1
    shards = open_shards(str(folder)).documents("train")
    loaded = datasets.load_dataset("arrow", data_files=files, cache_dir=str(tmp_path), split="train")
    assert loaded.num_rows == shards.num_documents
    expected = shards.tokens(0, int(shards.token_counts_N[0])).tolist()
    assert loaded[0]["tokens"] == expected and loaded[0]["doc_id"] == shards.doc_ids(0)
    assert polars.read_ipc(files[0])["tokens"][0].to_list() == expected
    counted = polars.scan_ipc(files).select(
        polars.len().alias("documents"),
        polars.col("tokens").list.len().sum(),
        polars.col("sentence_lengths").list.sum().sum(),
    )
    tokens = int(shards.token_counts_N.sum())
    assert counted.collect().rows() == [(shards.num_documents, tokens, tokens)]
    table = pa.ipc.open_file(files[0]).read_all()
    assert (
        table["sentence_lengths"][0].as_py()
        == shards.sentence_lengths[: shards.sentence_counts_N[0]].tolist()
    )
    metadata = json.loads(table.schema.metadata[b"sllm"])
    assert metadata["format_version"] == SHARD_FORMAT_VERSION and metadata["inputs"][0]["name"] == "a.jsonl"


def copy(folder: Path, target: Path) -> Path:
    target.mkdir()
    for file in folder.rglob("*"):
        if file.is_file():
            (target / file.relative_to(folder)).parent.mkdir(exist_ok=True)
            (target / file.relative_to(folder)).write_bytes(file.read_bytes())
    return target


def test_damage_is_refused_by_name(folder: Path, tmp_path: Path) -> None:
    root = copy(folder, tmp_path / "a")
    shard = root / "train-00001.arrow"
    content = bytearray(shard.read_bytes())
    content[len(content) // 2] ^= 1
    shard.write_bytes(content)
    with pytest.raises(ShardError, match=r"train-00001.arrow is damaged.*checksum"):
        open_shards(str(root)).verify()
    shard.write_bytes(content[:-1])
    with pytest.raises(ShardError, match=r"train-00001.arrow is damaged"):
        open_shards(str(root)).documents("train")
    shard.unlink()
    with pytest.raises(ShardError, match=r"train-00001.arrow is missing"):
        open_shards(str(root)).documents("train")
    open_shards(str(root)).documents("dev")


def test_no_shards_unfinished_ones_and_other_versions_are_refused(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(ShardError, match="no shards"):
        open_shards(str(tmp_path / "nothing"))
    root = copy(folder, tmp_path / "a")
    manifest = json.loads((root / "manifest.json").read_text())
    manifest["identity"]["format_version"] = 99
    (root / "manifest.json").write_text(json.dumps(manifest))
    with pytest.raises(ShardError, match="format version 99"):
        open_shards(str(root))
    (root / "manifest.json").write_text("{")
    with pytest.raises(ShardError, match="damaged"):
        open_shards(str(root))
    (root / "manifest.json").unlink()
    Folder(str(root)).write("progress/plan.json", b"{}")
    with pytest.raises(ShardError, match="unfinished"):
        open_shards(str(root))


def test_another_tokenizer_is_refused(folder: Path, tmp_path: Path) -> None:
    other = Tokenizer.train(TEXTS, 290)
    with pytest.raises(ShardError, match="another tokenizer"):
        check_tokenizer(open_shards(str(folder)), other.digest)
    root = copy(folder, tmp_path / "a")
    other.save(root / "tokenizer")
    with pytest.raises(ShardError, match="another tokenizer"):
        open_shards(str(root)).tokenizer()


def rewritten(folder: Path, root: Path, change: Any) -> Shards:
    """The shards with the first file of train changed by `change(columns)`, checksum and sizes included."""
    copy(folder, root)
    path = root / "train-00000.arrow"
    batch = pa.ipc.open_file(pa.BufferReader(path.read_bytes())).get_batch(0)
    columns = {name: batch[name].to_pylist() for name in batch.schema.names}
    schema = change(columns) or batch.schema
    new = pa.record_batch([pa.array(columns[name], schema.field(name).type) for name in schema.names], schema)
    with pa.ipc.new_file(str(path), schema) as writer:
        writer.write_batch(new)
    shards = open_shards(str(root))
    record = shards.records("train")[0]
    changed = {"file_bytes": path.stat().st_size, "sha256": digest_file(path)}
    record = record.model_copy(update=changed)
    records = [record, *(one for one in shards.manifest.shards if one.file != record.file)]
    return replace(shards, manifest=shards.manifest.model_copy(update={"shards": tuple(records)}))


@pytest.mark.parametrize("wrong_id", [300, 2**31 - 1, -1, -(2**31)])
def test_an_id_out_of_range_is_named_by_shard_and_document(
    folder: Path, tmp_path: Path, wrong_id: int
) -> None:
    def change(columns: dict[str, list[Any]]) -> None:
        columns["tokens"][2][1] = wrong_id

    documents = rewritten(folder, tmp_path / "a", change).documents("train")
    starts = documents.token_starts_N1
    documents.gather(starts[:2], starts[1:3])  # what is whole is read
    name = columns_of(folder)["doc_id"][2]
    for read in (
        lambda: documents.gather(starts[:3], starts[1:4]),
        lambda: documents.tokens(*starts[2:4].tolist()),
    ):
        with pytest.raises(
            ShardError, match=rf"train-00000.arrow is damaged: document 2 \('{name}'\).* {wrong_id},"
        ):
            read()


def columns_of(folder: Path) -> dict[str, list[Any]]:
    batch = pa.ipc.open_file(pa.BufferReader((folder / "train-00000.arrow").read_bytes())).get_batch(0)
    return {name: batch[name].to_pylist() for name in batch.schema.names}


def lengthen(columns: dict[str, list[Any]]) -> None:
    columns["sentence_lengths"][0][0] += 1
    columns["sentence_lengths"][1][0] -= 1


def negative(columns: dict[str, list[Any]]) -> None:
    columns["sentence_lengths"][0][:2] = [-1, sum(columns["sentence_lengths"][0][:2]) + 1]


def missing(columns: dict[str, list[Any]]) -> None:
    columns["num_bytes"][0] = None


def retyped(columns: dict[str, list[Any]]) -> Any:
    return pa.schema(
        [field.with_type(pa.list_(pa.int64())) if field.name == "tokens" else field for field in SCHEMA]
    )


@pytest.mark.parametrize("change", [lengthen, negative, missing, retyped])
def test_rows_that_make_no_sense_are_damage(folder: Path, tmp_path: Path, change: Any) -> None:
    with pytest.raises(ShardError, match=r"train-00000.arrow is damaged"):
        rewritten(folder, tmp_path / "a", change).documents("train")


@pytest.mark.parametrize(
    ("path", "value"),
    [
        (("totals", "train", "tokens"), -1),
        (("totals", "train", "tokens"), 1),
        (("shards", 0, "tokens"), -5),
        (("shards", 0, "index"), -5),
        (("shards", 0, "file"), "../elsewhere.arrow"),
        (("shards", 0, "num_bytes"), 2**80),
        (("num_work_units",), -1),
        (("bos_eos",), [-1, 2]),
        (("identity", "max_sentence_tokens"), -3),
        (("identity", "max_sentence_tokens"), "many"),
        (("identity",), []),
    ],
)
def test_a_manifest_with_impossible_values_is_damaged(
    folder: Path, tmp_path: Path, path: tuple[Any, ...], value: Any
) -> None:
    root = copy(folder, tmp_path / "a")
    tree = json.loads((root / "manifest.json").read_text())
    node = tree
    for key in path[:-1]:
        node = node[key]
    node[path[-1]] = value
    (root / "manifest.json").write_text(json.dumps(tree))
    with pytest.raises(ShardError, match="damaged"):
        open_shards(str(root))
