"""What `prepare` says at its end about the corpus: totals, rejections, filtered documents, the first of each."""

import dataclasses
import io
import json
import re
from pathlib import Path

import mlflow
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from mlflow.utils.validation import _validate_metric_name
from rich.console import Console
from typer.testing import CliRunner

from jobs import prepare as prepare_job
from jobs import run as whole_path
from jobs.cli import app
from jobs.reports import corpus_summary
from jobs.reports.evaluation import REPORT_FILE
from pipeline.config import load_config
from pipeline.lineage import Artifact
from pipeline.shards.manifest import Identity, Manifest

TEXT = "The lazy dog sleeps. The quick fox jumps over it, and runs away! "
LINES = [
    *(json.dumps({"id": f"d{i}", "text": TEXT * (i + 1)}) for i in range(20)),
    '{"id": "x", "te',
    '{"id": "y", "body": "z"}',
    '{"id": "w", "te',
    '{"id": "d3", "text": "Again."}',
    '{"id": "short", "text": "No."}',
]


def config(tmp_path: Path, tracking_uri: str, *overrides: str):
    (tmp_path / "a.jsonl").write_text("".join(line + "\n" for line in LINES))
    return load_config(
        None,
        [
            f"output={tmp_path / 'out'}", f"tracking.uri={tracking_uri}", f"data.inputs=['{tmp_path}/a.jsonl']",
            "launcher=local", "prepare.num_workers=1", "tokenizer.vocab_size=300", "data.dev_fraction=0.2",
            "data.max_rejected_fraction=0.5", "data.filters=[{name: length, options: {min_characters: 5}}]",
            *overrides,
        ],
    )  # fmt: skip


def shown(output: Path) -> str:
    console = Console(file=io.StringIO(), width=200)
    corpus_summary.show(str(output), console)
    return console.file.getvalue()


def test_a_job_says_what_became_of_the_corpus_and_says_it_again(tmp_path, tracking_uri, capfd) -> None:
    record = prepare_job.run(config(tmp_path, tracking_uri))
    first = capfd.readouterr().out
    prepare_job.run(config(tmp_path, tracking_uri))
    assert capfd.readouterr().out == first  # the finished job is not run again; its table is printed again
    table = shown(tmp_path / "out")
    cells = [[cell.strip() for cell in re.split("[│┃]", line)] for line in table.splitlines()]
    assert next(row[2] for row in cells if row[1:2] == ["broken JSON"]) == "2"
    assert next(row[3] for row in cells if row[1:2] == ["broken JSON"]).startswith("a.jsonl, line 21 (")
    assert next(row[3] for row in cells if row[1:2] == ["no field 'text'"]).startswith("a.jsonl, line 22 (")
    assert next(row[3] for row in cells if row[1:2] == ["duplicate id"]).startswith("a.jsonl, line 24 (")
    assert next(row[2:4] for row in cells if row[1:2] == ["filter length"]) == [
        "1",
        "a.jsonl, line 25 (3 characters, fewer than 5)",
    ]
    documents = next(row for row in cells if row[1:2] == ["documents"])
    assert [int(count) for count in documents[2:4]] == [
        record.metrics["train/documents"],
        record.metrics["dev/documents"],
    ]
    assert f"{tmp_path}/out/rejected.jsonl" in table
    assert f"{tmp_path}/out/rejected.jsonl" in first  # in one piece, however narrow the terminal is

    wanted = {
        "rejected": 4, "rejected/broken JSON": 2, "rejected/no field text": 1, "rejected/duplicate id": 1,
        "filtered/length": 1, "bytes_read": (tmp_path / "a.jsonl").stat().st_size,
    }  # fmt: skip
    stored = mlflow.MlflowClient(tracking_uri).get_run(record.run_id).data.metrics
    assert wanted.items() <= stored.items() and wanted.items() <= record.metrics.items()
    rows = dict(whole_path._figures(config(tmp_path, tracking_uri), {"prepare": record}))
    assert rows["corpus rejected: broken JSON"] == "2" and rows["corpus filtered: length"] == "1"


def test_where_nothing_was_rejected_that_is_said(tmp_path, tracking_uri, capfd) -> None:
    (tmp_path / "b.jsonl").write_text("".join(line + "\n" for line in LINES[:20]))
    prepare_job.run(config(tmp_path, tracking_uri, f"data.inputs=['{tmp_path}/b.jsonl']"))
    assert "no document was rejected or filtered" in capfd.readouterr().out


def test_text_that_max_bytes_leaves_out_is_said(tmp_path, tracking_uri, capfd) -> None:
    (tmp_path / "b.txt").write_text(TEXT * 400)
    options = ["data.document_bytes=500", f"data.inputs=['{tmp_path}/b.txt']"]
    prepare_job.run(config(tmp_path, tracking_uri, *options, "data.max_bytes=10000"))
    assert "data.max_bytes=10000 takes about 38% of the 26,000 bytes" in capfd.readouterr().out
    all_of_it = [*options, f"output={tmp_path}/all"]
    prepare_job.run(config(tmp_path, tracking_uri, *all_of_it))
    assert "data.max_bytes" not in capfd.readouterr().out


def test_what_rows_hold_is_no_markup(tmp_path, tracking_uri, capfd) -> None:
    with (tmp_path / "c.jsonl").open("w") as file:
        file.writelines(line + "\n" for line in LINES[:20])
        file.write('{"id": "[red]x", "[bold]": 1}\n')
    prepare_job.run(
        config(tmp_path, tracking_uri, f"data.inputs=['{tmp_path}/c.jsonl']", "data.text_field=text")
    )
    assert "[bold]" in shown(tmp_path / "out")


@example({"..": 1, "a/../b": 2, "": 1, "x" * 400: 1, "no field 'a.b'": 3})
@given(st.dictionaries(st.text(min_size=1), st.integers(1, 9), max_size=4))
@pytest.mark.filterwarnings("ignore")
def test_a_reason_of_any_characters_is_a_metric_and_none_is_lost(reasons: dict[str, int]) -> None:
    identity = Identity(
        format_version=1, inputs=(), data={}, segmenter={}, tokenizer_digest="", max_sentence_tokens=1,
        work_unit_bytes=1,
    )  # fmt: skip
    found = corpus_summary.metrics(Manifest.of(identity, 0, [], reasons, reasons))
    for name in found:
        _validate_metric_name(name)
    for kind in ("rejected", "filtered"):
        assert sum(value for name, value in found.items() if name.startswith(kind + "/")) == sum(
            reasons.values()
        )


def cells(table: str) -> list[list[str]]:
    return [[cell.strip() for cell in re.split("[│┃]", line)] for line in table.splitlines()]


def test_with_json_the_table_is_not_on_stdout(tmp_path, tracking_uri) -> None:
    tree = config(tmp_path, tracking_uri).model_dump(mode="json")
    (tmp_path / "config.json").write_text(json.dumps(tree))
    result = CliRunner().invoke(app, ["prepare", str(tmp_path / "config.json"), "--json"])
    assert json.loads(result.stdout)["metrics"]["rejected/broken JSON"] == 2
    assert "broken JSON" in result.stderr and f"{tmp_path}/out/rejected.jsonl" in result.stderr


def test_bytes_read_are_apart_where_files_are(tmp_path, tracking_uri, capfd) -> None:
    settings = config(tmp_path, tracking_uri)
    size = f"{(tmp_path / 'a.jsonl').stat().st_size:,}"
    prepare_job.prepare(settings, str(tmp_path / "out"))
    assert ["", "bytes read", "", "", size, ""] in cells(shown(tmp_path / "out"))
    (tmp_path / "dev.txt").write_text("One text. " * 9)
    more = (f"data.dev_inputs=[{tmp_path}/dev.txt]", "data.dev_fraction=0")
    prepare_job.prepare(config(tmp_path, tracking_uri, *more), str(tmp_path / "other"))
    row = next(row for row in cells(shown(tmp_path / "other")) if row[1:2] == ["bytes read"])
    assert row[2:4] == [size, "90"]


def test_at_a_url_and_where_the_list_is_damaged_or_gone(tmp_path, tracking_uri) -> None:
    settings = config(tmp_path, tracking_uri)
    prepare_job.prepare(settings, "memory://summary/out/")
    console = Console(file=io.StringIO(), width=200)
    corpus_summary.show("memory://summary/out/", console)
    table = console.file.getvalue()
    assert "all of them: memory://summary/out/rejected.jsonl" in table and "a.jsonl, line 21 (" in table
    prepare_job.prepare(settings, str(tmp_path / "out"))
    listed, whole = tmp_path / "out" / "rejected.jsonl", shown(tmp_path / "out")
    listed.write_bytes(b"{\n[]\n\xff\n" + listed.read_bytes())
    assert shown(tmp_path / "out") == whole
    listed.unlink()
    row = next(row for row in cells(shown(tmp_path / "out")) if row[1:2] == ["broken JSON"])
    assert row[2:4] == ["2", "rejected.jsonl lacks it"]


def test_credentials_in_a_url_are_not_shown(tmp_path, tracking_uri, monkeypatch) -> None:
    prepare_job.prepare(config(tmp_path, tracking_uri), str(tmp_path / "out"))
    console = Console(file=io.StringIO(), width=200)
    folder = corpus_summary.Folder(str(tmp_path / "out"))
    monkeypatch.setattr(corpus_summary, "Folder", lambda output: folder)
    corpus_summary.show("ftp://me:hunter2@host/out", console)
    assert "hunter2" not in console.file.getvalue() and "host/out/rejected.jsonl" in console.file.getvalue()


def test_the_table_of_a_whole_run_has_the_counts_and_a_note_at_figures_without_meaning(
    tmp_path, tracking_uri, capsys
) -> None:
    settings = config(tmp_path, tracking_uri)
    record = prepare_job.run(settings)
    old = dataclasses.replace(record, metrics={})  # of a version that counted less
    likelihood = {"bits_per_byte": 1.25, "lossy_documents": 3}
    report = {
        "unigram": likelihood,
        "sllm": likelihood | {"segmenter": "fixed_v1", "shards_segmenter": "punctuation_v1"},
    }
    (tmp_path / "evaluation").mkdir()
    (tmp_path / "evaluation" / REPORT_FILE).write_text(json.dumps(report))
    made = Artifact("report", str(tmp_path / "evaluation"), digest="", run_id="")
    capsys.readouterr()
    whole_path.summarize(settings, {"prepare": old, "evaluate": dataclasses.replace(record, output=made)})
    table = capsys.readouterr().out
    rows = cells(table)
    assert ["", "corpus rejected: broken JSON", "2", ""] in rows
    assert ["", "bits per byte (*): sllm", "1.2500", ""] in rows
    assert "broken JSON, the first of 2: a.jsonl, line 21 (" in table
    assert f"all of them: {tmp_path}/out/rejected.jsonl" in table
    assert "(*) Bits per byte mean nothing here: of 3 documents" in table
    assert "sllm was trained on sentences of fixed_v1, and evaluated on those of punctuation_v1." in table
