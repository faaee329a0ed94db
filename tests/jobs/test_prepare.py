"""`prepare` as a job: rejections, splits, filters, outputs at URLs, and what it refuses."""

import gzip
import json
from pathlib import Path

import pyarrow as pa
import pytest

from infra.storage import Folder
from jobs import prepare as prepare_job
from jobs.prepare import prepare
from pipeline.config import load_config
from pipeline.errors import ConfigError, CorpusError, ShardError
from pipeline.shards.reading import open_shards
from segmenters import SegmenterError
from tests.jobs.corpus import ROWS, config_for, content, write_rows


def test_rejections_are_counted_and_too_many_end_the_job(tmp_path: Path) -> None:
    rows = [*ROWS[:9], b'{"id": "x", "te', {"id": "y"}, *ROWS[9:], ROWS[30]]
    write_rows(tmp_path, rows)
    output = tmp_path / "out"
    with pytest.raises(
        CorpusError, match=r"3 of 63 .*max_rejected_fraction.*a.jsonl.gz, line 10: broken JSON"
    ):
        prepare(config_for(tmp_path), str(output))
    with pytest.raises(ShardError, match="unfinished"):
        open_shards(str(output))
    manifest = prepare(config_for(tmp_path, "data.max_rejected_fraction=0.1"), str(output))
    assert manifest.rejected == {"broken JSON": 1, "duplicate id": 1, "no field 'text'": 1}
    rejected = [json.loads(line) for line in (output / "rejected.jsonl").read_text().splitlines()]
    assert [(row["file"], row["position"], row["doc_id"]) for row in rejected] == [
        ("a.jsonl.gz", "line 10", None),
        ("a.jsonl.gz", "line 11", "y"),
        ("a.jsonl.gz", "line 63", "d30"),
    ]
    assert manifest.totals["train"].documents + manifest.totals["dev"].documents == 60
    # Work units with repeated ids that are damaged later are made again, still without them.
    before = content(output)
    next(iter(sorted(output.glob("*.arrow"), reverse=True))).unlink()
    prepare(config_for(tmp_path, "data.max_rejected_fraction=0.1"), str(output))
    assert content(output) == before


def test_dev_inputs_and_a_corpus_without_documents(tmp_path: Path) -> None:
    write_rows(tmp_path, ROWS[:50])
    write_rows(tmp_path, ROWS[50:], "b.jsonl.gz")
    overrides = (f"data.dev_inputs=[{tmp_path}/b.jsonl.gz]", "data.dev_fraction=0")
    manifest = prepare(config_for(tmp_path, *overrides), str(tmp_path / "out"))
    assert (manifest.totals["train"].documents, manifest.totals["dev"].documents) == (50, 10)
    write_rows(tmp_path, [b""])
    with pytest.raises(CorpusError, match="no document"):
        prepare(config_for(tmp_path), str(tmp_path / "none"))


def test_an_output_at_a_url(made: Path, tmp_path: Path) -> None:
    url = f"memory://{tmp_path}/out"
    manifest = prepare(config_for(tmp_path), url)
    assert manifest == prepare(config_for(tmp_path), url)
    folder = Folder(url)
    assert {name: folder.read(name) for name in folder.names()} == content(made)


def test_as_a_recorded_job(tmp_path: Path, tracking_uri: str) -> None:
    write_rows(tmp_path, ROWS)
    config = config_for(tmp_path, f"output={tmp_path}/out", f"tracking.uri={tracking_uri}")
    record = prepare_job.run(config)
    assert record.metrics["train/documents"] + record.metrics["dev/documents"] == 60
    read = {artifact.kind: artifact.path for artifact in record.inputs}
    assert read == {"corpus": f"{tmp_path}/a.jsonl.gz", "segmenter": config.segmenter.name}
    again = prepare_job.run(config)
    assert again.run_id == record.run_id
    assert prepare_job.run(config, force=True).output.digest == record.output.digest


def test_a_wrong_segmenter_is_refused_before_anything_is_written(tmp_path: Path, tracking_uri: str) -> None:
    source = tmp_path / "corpus.txt"
    source.write_text("One. Two.")
    settings = [f'data.inputs=["{source}"]', f"output={tmp_path / 'out'}", f"tracking.uri={tracking_uri}"]
    with pytest.raises(SegmenterError, match="did you mean 'punctuation_v"):
        prepare_job.run(load_config(None, [*settings, "segmenter.name=punctuation"]))
    assert not (tmp_path / "out").exists()


def splits_of(output: Path) -> dict[str, str]:
    """By document id, `train` or `dev`."""
    return {
        doc_id: file.name.partition("-")[0]
        for file in output.glob("*.arrow")
        for doc_id in pa.ipc.open_file(file).read_all()["doc_id"].to_pylist()
    }


def test_documents_without_ids_stay_in_their_split_and_copies_are_kept(tmp_path: Path) -> None:
    folders = {"x": range(40), "y": range(40, 60), "copy": range(40), "moved/x": range(40)}
    for folder, numbers in folders.items():
        (tmp_path / folder).mkdir(parents=True)
        rows = [json.dumps({"text": f"Document {i}. It says something."}) for i in numbers]
        (tmp_path / folder / "part.jsonl").write_text("\n".join(rows))

    def made(output: str, *inputs: str) -> tuple[dict[str, str], int]:
        config = config_for(tmp_path, f"data.inputs=[{','.join(f'{tmp_path}/{one}' for one in inputs)}]")
        totals = prepare(config, str(tmp_path / output)).totals
        return splits_of(tmp_path / output), totals["train"].documents + totals["dev"].documents

    alone, count = made("alone", "x")
    assert set(alone.values()) == {"train", "dev"} and count == 40
    more, count = made("more", "y", "x")
    assert {doc_id: more[doc_id] for doc_id in alone} == alone and count == 60
    twice, count = made("twice", "x", "copy")
    assert twice == alone and count == 80
    moved, _ = made("moved-out", "moved/x")
    assert moved == alone and content(tmp_path / "alone").keys() == content(tmp_path / "moved-out").keys()
    for name, data in content(tmp_path / "alone").items():
        assert name == "manifest.json" or content(tmp_path / "moved-out")[name] == data
    # A lost shard is made again, still with the copies.
    before = content(tmp_path / "twice")
    next((tmp_path / "twice").glob("train-*.arrow")).unlink()
    made("twice", "x", "copy")
    assert content(tmp_path / "twice") == before


def test_inputs_of_one_name_another_order_and_dev_are_distinguished(tmp_path: Path) -> None:
    for folder in ("x", "y"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "part.jsonl").write_text(json.dumps({"text": f"Text of {folder}."}) + '\n{"te')
    x, y = f"{tmp_path}/x", f"{tmp_path}/y"
    both = ("data.max_rejected_fraction=1", "data.dev_fraction=0", f"data.inputs=[{x},{y}]")
    manifest = prepare(config_for(tmp_path, *both), str(tmp_path / "out"))
    assert [file.name for file in manifest.identity.inputs] == ["part.jsonl", "part.jsonl"]
    rejected = [json.loads(line) for line in (tmp_path / "out" / "rejected.jsonl").read_text().splitlines()]
    assert [row["file"] for row in rejected] == [f"{x}/part.jsonl", f"{y}/part.jsonl"]
    with pytest.raises(ShardError, match=r"input part\.jsonl \(2\): sha256.*, nothing now"):
        prepare(config_for(tmp_path, *both, f"data.inputs=[{x}]"), str(tmp_path / "out"))
    with pytest.raises(ShardError, match=r"input part\.jsonl: sha256"):
        prepare(config_for(tmp_path, *both, f"data.inputs=[{y},{x}]"), str(tmp_path / "out"))
    with pytest.raises(ShardError, match="dev inputs: nothing there"):
        prepare(
            config_for(tmp_path, *both, f"data.inputs=[{x}]", f"data.dev_inputs=[{y}]"), str(tmp_path / "out")
        )
    (tmp_path / "y" / "part.jsonl").rename(tmp_path / "y" / "other.jsonl")
    prepare(config_for(tmp_path, *both), str(tmp_path / "names"))
    with pytest.raises(ShardError, match="order of inputs"):
        prepare(config_for(tmp_path, *both, f"data.inputs=[{y},{x}]"), str(tmp_path / "names"))


def test_lines_that_a_broken_quote_swallows_count_against_the_bound(tmp_path: Path) -> None:
    rows = [
        "id,text",
        *(f"{i},Row {i}." for i in range(100)),
        '100,"It begins',
        *["and goes on, and on, on"] * 300,
    ]
    (tmp_path / "a.csv").write_text("\n".join(rows))
    with pytest.raises(
        CorpusError, match=r"301 of 401.*a\.csv, line 102: broken CSV \(a quote opens a field here"
    ):
        prepare(config_for(tmp_path, f"data.inputs=[{tmp_path}/a.csv]"), str(tmp_path / "out"))


FILTERS = (
    "data.filters=[{name: length, options: {min_characters: 40}}, {name: exact_duplicates},"
    " {name: near_duplicates}]"
)


def test_filters_drop_the_same_documents_for_any_number_of_workers(tmp_path: Path) -> None:
    long = " ".join(f"Line {i} of a long text." for i in range(300))
    rows = [
        {"id": "short", "text": "Too short."},
        {"id": "first", "text": long},
        *ROWS,
        {"id": "same", "text": ROWS[20]["text"] + " "},
        {"id": "near", "text": long + " And one more."},
    ]
    write_rows(tmp_path, rows)
    manifest = prepare(config_for(tmp_path, FILTERS), str(tmp_path / "one"))
    prepare(config_for(tmp_path, FILTERS, "prepare.num_workers=2"), str(tmp_path / "two"))
    assert content(tmp_path / "one") == content(tmp_path / "two")
    rejected = [json.loads(line) for line in (tmp_path / "one" / "rejected.jsonl").read_text().splitlines()]
    dropped = {row["doc_id"]: row["reason"] for row in rejected}
    assert dropped["short"] == "length" and dropped["same"] == "exact_duplicates"
    assert dropped["near"] == "near_duplicates" and "first" not in dropped
    assert sum(manifest.filtered.values()) == len(rejected) and not manifest.rejected
    assert len(rejected) + sum(totals.documents for totals in manifest.totals.values()) == len(rows)
    # A shard that is lost later is made again, without the same documents.
    before = content(tmp_path / "one")
    next((tmp_path / "one").glob("*-00001.arrow")).unlink()
    prepare(config_for(tmp_path, FILTERS), str(tmp_path / "one"))
    assert content(tmp_path / "one") == before


def test_a_recorded_job_writes_to_a_url(made: Path, tmp_path: Path, tracking_uri: str) -> None:
    url = f"memory://{tmp_path}/job"
    config = config_for(tmp_path, f"output={url}", f"tracking.uri={tracking_uri}")
    record = prepare_job.run(config)
    assert record.output.path == url and len(record.output.digest) == 64
    assert prepare_job.run(config).run_id == record.run_id
    Folder(url).remove(["train-00001.arrow"])
    again = prepare_job.run(config)
    assert again.run_id == record.run_id and again.output.digest == record.output.digest
    folder = Folder(url)
    written = {name: folder.read(name) for name in folder.names() if name != "job.json"}
    assert written == content(made)


@pytest.mark.parametrize("given", ["a.jsonl.gz", "*.gz", "corpus", "corpus/*.gz", "."])
def test_a_corpus_in_the_output_folder_is_left_and_not_listed(
    tmp_path: Path, tracking_uri: str, given: str
) -> None:
    folder = tmp_path / "corpus" if given.startswith("corpus") else tmp_path
    folder.mkdir(exist_ok=True)
    write_rows(folder, ROWS)
    before = content(folder)
    inputs = f"data.inputs={tmp_path}/{given}"
    if given == ".":  # what is beside it would be read too
        (tmp_path / "mlflow.db").rename(tmp_path.parent / f"{tmp_path.name}.db")
        tracking_uri = f"sqlite:///{tmp_path.parent}/{tmp_path.name}.db"
        before = content(folder)
    config = config_for(tmp_path, inputs, f"output={tmp_path}", f"tracking.uri={tracking_uri}")
    record = prepare_job.run(config)
    assert record.files and not [name for name in record.files if name.endswith((".gz", ".db"))]
    after = content(folder)
    assert {name: after[name] for name in before if not name.endswith(".db")} == {
        name: old for name, old in before.items() if not name.endswith(".db")
    }


def test_shards_of_another_program_are_never_replaced(tmp_path: Path, tracking_uri: str) -> None:
    write_rows(tmp_path, ROWS)
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "train-00000.arrow").write_bytes(b"another's")
    config = config_for(tmp_path, f"output={tmp_path / 'out'}", f"tracking.uri={tracking_uri}")
    for force in (False, True):
        with pytest.raises(ConfigError, match=r"holds train-00000\.arrow, which no job of ours wrote"):
            prepare_job.run(config, force=force)
    with pytest.raises(ShardError, match="no job of ours wrote it"):
        prepare(
            config.model_copy(update={"prepare": config.prepare.model_copy(update={"overwrite": True})}),
            str(tmp_path / "out"),
        )
    assert content(tmp_path / "out") == {"train-00000.arrow": b"another's"}


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("a.csv", "id,text\r\n"),
        ("a.jsonl", ""),
        ("a.csv.gz", gzip.compress(b"id,text")),
        ("a.jsonl.gz", gzip.compress(b"")),
    ],
)
def test_files_without_a_document_are_an_error_before_the_run(
    tmp_path: Path, name: str, text: str | bytes, tracking_uri: str
) -> None:
    (tmp_path / name).write_bytes(text if isinstance(text, bytes) else text.encode())
    config = load_config(
        None, [f"data.inputs={tmp_path / name}", f"output={tmp_path}/out", f"tracking.uri={tracking_uri}"]
    )
    with pytest.raises(CorpusError, match="there is no document in"):
        prepare_job.run(config)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("output", ["corpus", "corpus/out"])
def test_shards_beside_their_corpus_are_no_part_of_it(tmp_path: Path, tracking_uri: str, output: str) -> None:
    (tmp_path / "corpus").mkdir()
    write_rows(tmp_path / "corpus", ROWS)
    config = config_for(
        tmp_path,
        f"data.inputs={tmp_path}/corpus",
        f"output={tmp_path / output}",
        f"tracking.uri={tracking_uri}",
    )
    first = prepare_job.run(config)
    expected = content(tmp_path)
    assert prepare_job.run(config) == first and content(tmp_path) == expected


def test_a_wrong_filter_is_an_error_before_the_run(tmp_path: Path, tracking_uri: str) -> None:
    write_rows(tmp_path, ROWS)
    filters = "data.filters=[{name: length, options: {min: 3}}]"
    config = config_for(tmp_path, filters, f"output={tmp_path}/out", f"tracking.uri={tracking_uri}")
    with pytest.raises(ConfigError, match="no option 'min'"):
        prepare_job.run(config)
    assert not (tmp_path / "out").exists()
