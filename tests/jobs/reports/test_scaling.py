"""`sllm scaling`: which designs are points, the table, the plot."""

import json

import pytest

from jobs.reports.scaling import command, read_points
from pipeline.errors import ConfigError


def comparison(folder, tokens, controls=True):
    def design(kind, parameters, factor=1.0, **more):
        bits = factor * (1 + 30 * parameters**-0.3 + 40 * tokens**-0.28)
        return {
            "kind": kind,
            "parameters": parameters,
            "training_tokens": tokens,
            "bits_per_byte": bits,
            **more,
        }

    designs = {f"lm-{size}": design("token-level", size * 1e6) for size in (1, 3, 9)}
    designs["sentences"] = design("sentence-level", 1e6, 0.9, controls=["lm-1", "blind"])
    designs["blind"] = design("sentence-level", 1e6, 0.95)
    (folder / "report").mkdir(parents=True)
    (folder / "report" / "comparison.json").write_text(json.dumps({"variants": designs}))
    return str(folder)


@pytest.fixture
def comparisons(tmp_path):
    return [comparison(tmp_path / f"{tokens:.0e}", tokens) for tokens in (1e6, 3e6, 1e7)]


def test_points_are_all_designs_but_changed_ones(comparisons):
    points = read_points(comparisons, ())
    assert len(points["token-level"]) == 9
    assert list(points["sentence-level"]) == ["sentences (1)", "sentences (2)", "sentences (3)"]
    chosen = read_points(comparisons[:1], ["blind"])
    assert list(chosen["sentence-level"]) == ["blind"] and not chosen["token-level"]


def test_table_json_and_plot(comparisons, tmp_path, capsys):
    plot = tmp_path / "scaling.svg"
    command(comparisons, plot=str(plot))
    table = capsys.readouterr().out
    assert "| token-level | 9 | 1 (" in table and "| 0.3 (0.3 to 0.3) |" in table
    assert "sentence-level: 1 distinct number of parameters, 3 are needed" in table
    assert "| lm-9 (3) | token-level | 9,000,000 | 10,000,000 |" in table
    assert "training tokens" in plot.read_text()
    command(comparisons, only=["lm-3"], as_json=True)
    found = json.loads(capsys.readouterr().out)
    assert found["token-level"]["terms"] == ["tokens"] and found["sentence-level"]["designs"] == {}


def test_a_folder_without_a_report_and_an_unknown_design_are_refused(comparisons, tmp_path):
    with pytest.raises(ConfigError, match=r"has no comparison\.json"):
        read_points([str(tmp_path / "none")], ())
    with pytest.raises(ConfigError, match="--only lm-2 is no design"):
        read_points(comparisons, ["lm-2"])
