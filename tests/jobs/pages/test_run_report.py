"""Parts of `report.html` that the whole path of a test does not have: a comparison of designs, and what is missing."""

import json
import re
from dataclasses import replace

from jobs.pages.run import Step, run_report
from jobs.reports.comparison_plot import plot
from pipeline.config import load_config
from pipeline.evaluation.comparison import DesignFigures
from pipeline.evaluation.generation_speed import Speed
from pipeline.lineage import Artifact, JobRecord
from tests.browser import DESKTOP_DARK, PHONE, fits


def record(job, kind, folder, **more):
    return JobRecord(
        job=job,
        identity="0" * 64,
        config={},
        inputs=(),
        output=Artifact(kind, str(folder), "1" * 64),
        run_id="",
        metrics={},
        versions={"sllm": "0.1.0"},
        started="2026-01-01T00:00:00+00:00",
        finished="2026-01-01T01:02:03+00:00",
        **more,
    )


def design(name, bits):
    return DesignFigures(
        name=name,
        title=f"<u>{name}</u>",
        kind="token-level",
        parameters=1234567,
        training_tokens=1e6,
        training_flops=2.5e12,
        bits_per_byte=bits,
        context_bytes_per_token=1.0,
        window_bytes=0.0,
        speeds=(),
        generation_flops_per_token=1e6,
        curve=(2.0, float("nan")),
    )


def test_a_comparison_has_its_table_and_plot(tmp_path, browser):
    figures = [design("lm", 2.125), design("sllm", 1.9375)]
    setting = {"tokens": 1_000_000, "position_edges": [1, 8, 64]}
    tree = {"setting": setting, "variants": {each.name: each.as_dict() for each in figures}}
    (tmp_path / "comparison.json").write_text(json.dumps(tree))
    (tmp_path / "comparison.png").write_bytes(plot_of(figures, setting))
    config = load_config(None, [f"output={tmp_path}"])
    step = Step("compare", record("compare", "report", tmp_path, user="<u>ann</u>", host="node-1"), False)
    (tmp_path / "report.html").write_bytes(run_report(config, [step], [], "sllm run compare"))

    def check(page):
        fits(page)
        rows = page.locator("#designs tbody tr").all_inner_texts()
        assert [row.split() for row in rows] == [
            ["<u>lm</u>", "2.1250", "1,234,567", "2.50"],
            ["<u>sllm</u>", "1.9375", "1,234,567", "2.50"],
        ]
        assert page.locator("img.plot").evaluate("one => one.complete && one.naturalWidth") > 100
        assert "by <u>ann</u> on node-1" in page.inner_text("header")
        assert "ran in 1 h 2 min" in page.inner_text("#jobs")

    browser.look(tmp_path / "report.html", "report-of-designs", check, [PHONE, DESKTOP_DARK])


def plot_of(figures, setting):
    return plot([replace(each, speeds=(Speed(1, 100.0),)) for each in figures], setting, "png")


def test_what_cannot_be_read_is_named_and_secrets_are_not_shown(tmp_path):
    config = load_config(None, [f"output={tmp_path}", "tracking.uri=postgresql://me:secret@127.0.0.1:9/db"])
    steps = [
        Step("prepare", record("prepare", "shards", tmp_path / "shards"), True),
        Step("train-lm", record("train-lm", "model", tmp_path / "lm"), False),
        Step("evaluate", record("evaluate", "report", tmp_path / "evaluation"), False),
    ]
    steps[1].record.versions["git"] = "abc"
    html = run_report(config, steps, [], "sllm run x tracking.uri=postgresql://me:secret@db/mlflow").decode()
    notes = re.findall('<p class="note warn">(.*?)</p>', html)
    assert [note.partition(" cannot be read")[0] for note in notes[:2]] == ["the evaluation", "the shards"]
    assert "secret" not in html and "reused, of 2026-01-01 01:02 UTC" in html
