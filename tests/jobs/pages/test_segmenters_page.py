"""`sllm segment --compare --html`."""

import json
import re

import numpy as np
import pytest
from typer.testing import CliRunner

from jobs.cli import app
from jobs.pages.segmenters import _agreement, _rows, segmenters_page
from jobs.reports.segmenter_differences import Comparison
from tests.browser import PHONE, fits
from tests.jobs.pages.contrast import assert_legible

TEXTS = [
    "Dr. Smith paid $3.14, i.e. too much. He left; the rain fell.\n\nNext <b>line</b>.\x1b[0m \u202eX.\n",
    "他说：“你好。”然后走了。今天天气很好！",
    "ذهب الولد إلى المدرسة. قال المعلم: Python 3.12 لغة برمجة! هل تعرفها؟",
    "word " * 3000,
]


@pytest.fixture(scope="module")
def page(tmp_path_factory):
    root = tmp_path_factory.mktemp("compared")
    source = root / "<i>in.jsonl"
    source.write_text("".join(json.dumps({"id": i, "text": text}) + "\n" for i, text in enumerate(TEXTS)))
    command = [
        "segment",
        "--compare",
        "punctuation_v1,reference_v1,learned_v1",
        str(source),
        "--html",
        str(root / "page.html"),
    ]
    result = CliRunner().invoke(app, command)
    assert result.exit_code == 0, result.output
    return root / "page.html"


def ends(*values):
    return np.array(values, np.int64)


def test_agreement_is_the_f1_of_the_ends_inside_the_texts():
    comparison = Comparison(
        ["a" * 10, "b" * 4],
        {
            "x": [ends(2, 4, 10), ends(4)],
            "y": [ends(2, 10), ends(1, 2, 4)],
            "z": [ends(10), ends(4)],
        },
    )
    (_, xy, xz), (yx, _, _), _ = _agreement(comparison)
    assert xy == yx == pytest.approx(2 * 1 / (2 + 3)) and xz == 0
    assert _agreement(Comparison(["a"], {"x": [ends(1)], "y": [ends(1)]}))[0][1] is None


def test_rows_are_the_text_and_end_where_all_agree():
    comparison = Comparison(["So, yes. No."], {"x": [ends(9, 12)], "y": [ends(4, 9, 12)]})
    first, second = _rows(comparison, 0, ["x", "y"])
    assert [piece.text for piece in first.pieces] == ["So, ", "yes. "] and first.differs
    assert first.pieces[0].enders == (1,) and first.pieces[0].title == "y here, not x"
    assert [piece.text for piece in second.pieces] == ["No."] and not second.differs
    assert b"All segmenters agree on 1 of 2 rows" in segmenters_page(comparison, "in.txt")


def test_nothing_of_the_text_is_markup_or_a_control(page):
    html = page.read_text()
    assert "&lt;b&gt;line" in html and "<b>line" not in html and "<i>" not in html
    assert not re.search("[\x1b\u202e]", html)


def test_the_page_shows_all_text_in_its_direction_and_hides_what_is_agreed(page, browser):
    def check(seen):
        fits(seen)
        directions = seen.locator(".row").evaluate_all(
            "rows => rows.map(one => getComputedStyle(one).direction)"
        )
        assert {"ltr", "rtl"} == set(directions)
        shown = "".join(seen.locator(".row .piece").all_text_contents())
        plain = "".join(TEXTS).replace("\x1b", "\\u001b").replace("\u202e", "\\u202e")
        assert re.sub(r"[⏎\n]", "", shown) == plain.replace("\n", "")
        rows, different = seen.locator(".row").count(), seen.locator(".row.differs").count()
        assert 0 < different < rows
        seen.locator("#only").check()
        assert seen.locator(".row:visible").count() == different
        seen.locator("#only").uncheck()

    def check_look(seen):
        fits(seen)
        assert_legible(seen, "p, td, th, .row .piece, .chip, label")

    browser.look(page, "segmenters-whole", check, [PHONE])
    browser.look(page, "segmenters", check_look)
