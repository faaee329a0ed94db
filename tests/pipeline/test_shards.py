import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from infra.shard_output import ShardOutput
from jobs.prepare import prepare
from pipeline.config import Config, load_config
from pipeline.errors import ShardError
from pipeline.manifest import FORMAT_VERSION, ShardRecord, shard_name
from pipeline.shards import Documents, EncodedDocument, check_tokenizer, open_shards, shard_bytes
from pipeline.tokens import Tokenizer

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
            "prepare.split_bytes=1000",
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
    import duckdb
    import polars
    import pyarrow.dataset

    datasets.disable_progress_bars()
    files = sorted(map(str, folder.glob("train-*.arrow")))
    assert len(files) > 1
    shards = open_shards(str(folder)).documents("train")
    loaded = datasets.load_dataset("arrow", data_files=files, cache_dir=str(tmp_path), split="train")
    assert loaded.num_rows == shards.num_documents
    expected = shards.tokens(0, int(shards.token_counts_N[0])).tolist()
    assert loaded[0]["tokens"] == expected and loaded[0]["doc_id"] == shards.doc_ids(0)
    assert polars.read_ipc(files[0])["tokens"][0].to_list() == expected
    every = pyarrow.dataset.dataset(files, format="ipc")
    counted = duckdb.from_arrow(every).aggregate(
        "count(*), sum(len(tokens)), sum(list_sum(sentence_lengths))"
    )
    tokens = int(shards.token_counts_N.sum())
    assert counted.fetchall() == [(shards.num_documents, tokens, tokens)]
    table = pa.ipc.open_file(files[0]).read_all()
    assert (
        table["sentence_lengths"][0].as_py()
        == shards.sentence_lengths[: shards.sentence_counts_N[0]].tolist()
    )
    metadata = json.loads(table.schema.metadata[b"sllm"])
    assert metadata["format_version"] == FORMAT_VERSION and metadata["inputs"][0]["name"] == "a.jsonl"


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


def one_document(tokens: list[int], lengths: list[int], num_bytes: int = 9) -> EncodedDocument:
    return EncodedDocument("a", np.array(tokens, np.int32), np.array(lengths, np.int32), num_bytes)


@pytest.mark.parametrize(
    "documents",
    [
        [one_document([1, 2, 3], [1, 1])],
        [one_document([1, 2, 3], [3, 0])],
        [one_document([1, 2, 3], [4, -1])],
        [one_document([1, 2, 3], [1, 1]), one_document([4], [2])],
        [one_document([1, 2, 3], [3]), one_document([], [])],
        [one_document([1, 2, 3], [3], num_bytes=-1)],
    ],
    ids=["too few", "empty sentence", "negative", "of the next document", "empty document", "bytes"],
)
def test_lengths_that_do_not_fit_are_refused(tmp_path: Path, documents: list[EncodedDocument]) -> None:
    with pytest.raises(ShardError, match="damaged"):
        open_one(tmp_path, shard_bytes(documents, {}), documents)


def open_one(folder: Path, content: pa.Buffer, documents: list[EncodedDocument]) -> Documents:
    """A shard that the manifest describes as it is."""
    record = ShardRecord(
        file=shard_name("train", 0),
        split="train",
        index=0,
        documents=len(documents),
        sentences=sum(len(document.sentence_lengths) for document in documents),
        tokens=sum(len(document.tokens) for document in documents),
        num_bytes=9,
        file_bytes=content.size,
        sha256="ab" * 32,
    )
    (folder / record.file).write_bytes(content)
    return Documents([(folder / record.file, record)])


def test_offsets_past_the_end_are_refused(tmp_path: Path) -> None:
    documents = [one_document([1, 2, 3], [1, 2])] * 2
    content = shard_bytes(documents, {}).to_pybytes()
    good = np.array([0, 3, 6], np.int32).tobytes()
    assert content.count(good) == 1
    assert open_one(tmp_path, pa.py_buffer(content), documents).num_documents == 2
    bad = content.replace(good, np.array([0, 3, 2**30], np.int32).tobytes())
    with pytest.raises(ShardError, match="damaged"):
        open_one(tmp_path, pa.py_buffer(bad), documents)


def test_a_file_of_other_columns_is_refused(tmp_path: Path) -> None:
    documents = [one_document([1, 2, 3], [3])]
    sink = pa.BufferOutputStream()
    table = pa.table({"tokens": pa.array([[1, 2, 3]], pa.list_(pa.int64()))})
    with pa.ipc.new_file(sink, table.schema) as writer:
        writer.write_table(table)
    with pytest.raises(ShardError, match="damaged"):
        open_one(tmp_path, sink.getvalue(), documents)


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
    ShardOutput(str(root)).folder.write("progress/plan.json", b"{}")
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
