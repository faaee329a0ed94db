"""The table and the plot of a comparison, from figures that are made up."""

import dataclasses

from jobs.reports.comparison import markdown
from jobs.reports.comparison_plot import plot
from pipeline.evaluation.comparison import DesignFigures
from pipeline.evaluation.drafted_speed import DraftedSpeed
from pipeline.evaluation.generation_speed import Speed

SETTING = {
    "tokens": 1, "baseline": "large", "device": "CPU", "threads": 1, "torch": "2", "generated_tokens": 1,
    "position_edges": [0, 10],
}  # fmt: skip


def design(name, kind, bits, speed, **more):
    speeds = (Speed(1, speed),)
    return DesignFigures(
        name, f"title of {name}", kind, 1, 1, 1, bits, 1, 0, speeds, 1.0, curve=(1.0,), **more
    )


DESIGNS = [
    design("small", "token-level", 2.0, 100.0),
    design("large", "token-level", 1.8, 50.0),
    design(
        "ours", "sentence-level", 1.9, 60.0, ablations={"zeroed": 2.5, "shuffled": 2.75}, changed_from="large"
    ),
]


def test_the_tables_have_titles_and_no_internal_names():
    table = markdown(DESIGNS, SETTING)
    assert "| 1.056 |" in table and "| batch 1 |" in table
    assert "those of: title of large." in table
    assert "| design | predicted | zeroed | of another document |" in table
    assert "| title of ours | 1.9000 | 2.5000 | 2.7500 |" in table
    assert "| title of ours | title of large | +0.1000 | 1.056 |" in table
    assert "slide" not in table and "mean nothing" not in table


def test_drafts_move_the_frontier():
    fast = dataclasses.replace(DESIGNS[1], drafted=DraftedSpeed("small", 70.0))
    table = markdown([DESIGNS[0], fast, DESIGNS[2]], SETTING)
    assert "| title of large | title of small | 50 | 70 | 1.40 |" in table
    assert "as fast, with drafts where these are faster." in table
    assert "| batch 1 |" not in table  # `large` is as good as `ours`, and faster with drafts
    ours = dataclasses.replace(DESIGNS[2], drafted=DraftedSpeed("the decoder's first layer", 71.0))
    assert "| batch 1 |" in markdown([DESIGNS[0], fast, ours], SETTING)
    assert plot([DESIGNS[0], fast, ours], SETTING, "svg") != plot(DESIGNS, SETTING, "svg")


def test_what_limits_the_figures_is_printed_below_them():
    learned = [dataclasses.replace(DESIGNS[0], slides=False), *DESIGNS[1:]]
    table = markdown(learned, {**SETTING, "lossy_documents": 3})
    assert "Positions are learned in: title of small." in table
    assert "token ids of 3 documents" in table


def test_the_legend_of_the_plot_has_whole_titles(tmp_path):
    long = dataclasses.replace(
        DESIGNS[2], title="a title of so many words that one line of the legend cannot hold it"
    )
    (tmp_path / "plot.svg").write_bytes(plot([*DESIGNS[:2], long], SETTING, "svg"))
    drawn = (tmp_path / "plot.svg").read_text()
    assert "<!-- 1: title of small -->" in drawn
    assert "one line of the" in drawn and "cannot hold it" in drawn
    assert "generated tokens per second, 1 document" in drawn
