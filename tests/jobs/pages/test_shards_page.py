"""`sllm inspect --html`, seen in a browser: all that is hard to show is in one corpus."""

import json
import re

import pytest
from typer.testing import CliRunner

from jobs.cli import app
from jobs.prepare import prepare
from pipeline.config import load_config
from tests.browser import PHONE, fits
from tests.jobs.pages.contrast import assert_legible

LIMIT = 32
RIGHT_TO_LEFT = (
    "ذهب الولد إلى المدرسة. قال المعلم: Python 3.12 لغة برمجة! هل تعرفها؟\n"
    "שלום עולם. זה משפט (English) שני.\n"
)
CHINESE = "今天天气很好。我们去公园吧！你想去吗？\n日本語の文です。これは二番目の文です。"
HOSTILE = "<script>window.broken = 1</script> <b>bold</b>.\x00\x1b[31m red \u202e reversed.\r\n </div></section>A.\t"
OVER_LIMIT = " ".join(f"word{i}" for i in range(60)) + ". "
TEXTS = {
    "right-to-left": RIGHT_TO_LEFT,
    "chinese": CHINESE,
    "<img src=x onerror=alert(1)>\u202e": HOSTILE,
    "over the limit": OVER_LIMIT * 200,
    "very long": "".join(f"Sentence {i} is one of many. " for i in range(3000)),
    "short": "One. Two.\n\nThree.",
}


@pytest.fixture(scope="module")
def page(tmp_path_factory):
    """The page of shards with a document of each kind, and one line that is none."""
    root = tmp_path_factory.mktemp("shards")
    rows = [json.dumps({"id": name, "text": text}) for name, text in TEXTS.items()]
    (root / "<b>a.jsonl").write_text("\n".join([*rows, "broken"]))
    overrides = [
        f"data.inputs=[{json.dumps(str(root / '<b>a.jsonl'))}]",
        *("data.max_rejected_fraction=0.5", "launcher=local", "prepare.num_workers=1"),
        *("tokenizer.vocab_size=600", f"prepare.max_sentence_tokens={LIMIT}"),
    ]
    prepare(load_config(None, overrides), str(root / "out"))
    result = CliRunner().invoke(app, ["inspect", str(root / "out"), "--html", str(root / "page.html")])
    assert result.exit_code == 0, result.output
    return root / "page.html"


def test_the_page_is_small_and_holds_no_markup_or_control_of_the_corpus(page):
    html = page.read_text()
    assert len(html) < 700_000
    assert not re.search(r"[\x00-\x08\x0b-\x1f\x7f\u202a-\u202e]", html)
    assert "<script" not in html and "<img" not in html and "<b>" not in html.split("</style>")[1]
    assert "default-src 'none'; style-src 'unsafe-inline'" in html


def test_sentences_are_whole_in_their_direction_and_legible(page, browser):
    def check(seen):
        fits(seen)
        assert seen.evaluate("() => [window.broken, document.scripts.length]") == [None, 0]
        for document in seen.locator("details").all():
            document.evaluate("one => { one.open = true }")
        fits(seen)
        documents = {
            name: seen.locator("#sentences details", has_text=name).first
            for name in ("right-to-left", "chinese", "over the limit", "very long", "short")
        }
        shown = {name: one.locator(".text").text_content() for name, one in documents.items()}
        texts = {name: re.sub("[⏎✂]", "", text) for name, text in shown.items()}
        for name in ("right-to-left", "chinese", "short"):
            assert texts[name].strip() == TEXTS[name].strip()
        assert TEXTS["very long"].startswith(texts["very long"].strip())
        count = documents["right-to-left"].locator(".s").count()
        assert count == 5 and documents["chinese"].locator(".s").count() == 5
        directions = [
            documents[name].locator(".text").evaluate("one => getComputedStyle(one).direction")
            for name in ("right-to-left", "chinese", "short")
        ]
        assert directions == ["rtl", "ltr", "ltr"]
        assert "and 2,760 sentences more" in documents["very long"].text_content()
        # Of 240 shown pieces of sentences that are each too long for the limit, most end at it.
        assert shown["over the limit"].count("✂") >= 150

    def check_look(seen):
        fits(seen)
        assert_legible(seen, ".text .s, .text .cut, p, td, th, dt, summary, summary span, a")

    browser.look(page, "inspect-whole", check, [PHONE])
    browser.look(page, "inspect", check_look)


def test_what_was_chosen_and_rejected_is_said_in_words(page):
    html = page.read_text()
    assert "the longest document, and the one with the longest sentence" in html
    assert "broken JSON" in html and f"limit of {LIMIT} tokens" in html
