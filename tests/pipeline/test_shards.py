import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from infra.shard_output import ShardOutput
from jobs.prepare import prepare
from pipeline.config import Config, load_config
from pipeline.errors import ShardError
from pipeline.manifest import FORMAT_VERSION
from pipeline.shards import check_tokenizer, open_shards
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
