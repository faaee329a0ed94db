"""No control sequence of a corpus, a name, a configuration or a library reaches the terminal."""

import io
import json
import logging

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.progress import Progress, TextColumn
from rich.table import Table
from rich.text import Text
from rich.tree import Tree
from typer.testing import CliRunner

from jobs.cli import app
from jobs.runner.console import say
from jobs.runner.printable_console import PrintableConsole
from pipeline.lineage import Artifact, JobRecord, write_record
from pipeline.printable import printable

ATTACKS = (
    "\x1b]0;title\x07",
    "\x1b[2J\x1b[31m",
    "\x9b2J",
    "\x9d0;t\x9c",
    "\u202egnp.exe",
    "a\rb",
    "\x08\x7f",
    "\u2066x\u2069",
    "\u2028",
)
ALL = "".join(ATTACKS)


def is_clean(text):
    return not any(character in text for character in set(ALL) - set("0123456789;[]titleJmgnp.exeab"))


@pytest.mark.parametrize("attack", ATTACKS)
def test_each_is_shown_as_an_escape(attack):
    assert is_clean(printable(attack)) and "\\u" in printable(attack)


def test_text_of_any_script_is_left_as_it_is():
    text = "Ärger, 日本語\tשלום مرحبا 👩\u200d👩\nश्री"
    assert printable(text) == text


@given(st.text())
def test_json_means_the_same(text):
    shown = printable(json.dumps({"a": text}, ensure_ascii=False))
    assert json.loads(shown) == {"a": text} and is_clean(shown)


@pytest.mark.parametrize("is_terminal", [True, False])
def test_what_rich_draws(is_terminal):
    file = io.StringIO()
    console = PrintableConsole(file=file, force_terminal=is_terminal, color_system=None, width=200)
    table = Table(title=Text(ALL))
    table.add_column(ALL.replace("[", ""))
    table.add_row(Text(ALL, style="bold"))
    tree = Tree(Text(ALL))
    tree.add(Text(ALL))
    for one in (ALL.replace("[", ""), Text(ALL), table, tree):
        console.print(one)
    assert is_clean(file.getvalue())
    assert file.getvalue().count("u202e") >= 4


def test_brackets_and_colons_are_text():
    file = io.StringIO()
    table = Table("[bold]a", title="runs/[/x] :smile:")
    table.add_row("text[/0] :x: in a row that is wider than the title")
    console = PrintableConsole(file=file, width=80)
    console.print(table)
    console.print("no field '[red]x[/red]'")
    shown = file.getvalue()
    assert all(text in shown for text in ("[bold]a", "runs/[/x] :smile:", "text[/0] :x:", "'[red]x[/red]'"))


def test_a_progress_bar():
    file = io.StringIO()
    console = PrintableConsole(file=file, force_terminal=True, width=200, color_system=None)
    with Progress(TextColumn("{task.description}", markup=False), console=console) as bar:
        bar.add_task("\x1b]0;title\x07\u202e", total=1)
    assert "\\u001b]0" in file.getvalue()
    assert "\x1b]0" not in file.getvalue() and "\x07" not in file.getvalue()


def test_lines_and_warnings(capsys, caplog):
    say(ALL)
    assert is_clean(capsys.readouterr().err)
    logging.getLogger("sllm").warning("passed over: %s", ALL)
    assert is_clean(caplog.records[-1].getMessage())


def test_an_error_that_names_a_file(tmp_path):
    given = f"data.inputs=[{json.dumps(str(tmp_path / 'a') + ALL)}]"
    result = CliRunner().invoke(app, ["prepare", given, f"output={tmp_path}/out", "launcher=local"])
    assert result.exit_code == 2 and "\\u202e" in result.stderr
    assert is_clean(result.stderr)


def test_a_verb_that_fails_unforeseen(monkeypatch):
    def fails(*arguments, **options):
        raise RuntimeError(ALL)

    monkeypatch.setattr("jobs.inspect.open_shards", fails)
    result = CliRunner().invoke(app, ["inspect", "x"])
    assert result.exit_code == 1 and "RuntimeError" in result.stderr and is_clean(result.stderr)


@pytest.mark.parametrize("options", [[], ["--json"]])
def test_lineage(tmp_path, options):
    inputs = (Artifact("corpus", f"/c/{ALL}", f"[/x]{ALL}"),)
    record = JobRecord(
        job=f"prepare{ALL}",
        identity="i" * 64,
        config={},
        inputs=inputs,
        output=Artifact("shards", str(tmp_path), f"[/x]{ALL}"),
        run_id=f"[/x]{ALL}",
        metrics={},
        versions={},
        started="2026-01-01T00:00:00+00:00",
        finished="2026-01-01T00:00:00+00:00",
    )
    write_record(tmp_path, record)
    result = CliRunner().invoke(app, ["lineage", str(tmp_path), *options])
    assert result.exit_code == 0 and "\\u202e" in result.stdout
    assert is_clean(result.stdout)
    if options:
        assert json.loads(result.stdout)["artifact"]["digest"] == record.output.digest


def test_comparison_and_inspection_of_documents(tmp_path):
    corpus = tmp_path / "a.jsonl"
    rows = [{"id": f"[/x]{ALL}{n}", "text": f"Hello {ALL} there. Good bye."} for n in range(9)]
    corpus.write_text("".join(json.dumps(row) + "\n" for row in rows))
    names = "punctuation_v1,punctuation_v1"
    result = CliRunner().invoke(app, ["segment", str(corpus), "--compare", names])
    assert result.exit_code == 0 and "\\u001b]0" in result.stdout and is_clean(result.stdout)
    given = [f"data.inputs=[{corpus}]", "tokenizer.vocab_size=300", "launcher=local"]
    tracking = f"tracking.uri=sqlite:///{tmp_path}/mlflow.db"
    result = CliRunner().invoke(app, ["prepare", *given, f"output={tmp_path}/out", tracking])
    assert result.exit_code == 0, result.output
    result = CliRunner().invoke(app, ["inspect", f"{tmp_path}/out", "--samples", "2"])
    assert result.exit_code == 0, result.output
    assert "[/x]" in result.stdout and "u202e" in result.stdout and is_clean(result.stdout)
