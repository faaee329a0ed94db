"""`sllm lineage --html`."""

import dataclasses
import random
import re

from jobs.lineage.differences import differences
from jobs.lineage.node import LineageNode
from jobs.lineage.page import FILES_SHOWN, MOST_NODES, cards_of, page_of, page_of_two
from jobs.lineage.scores import Score
from pipeline.lineage import Artifact
from tests.browser import fits
from tests.jobs.pages.contrast import assert_legible

HOSTILE = "/data/<img src=x>\u202e\x1b[31m.jsonl"


def artifact(kind, path):
    return Artifact(kind, path, f"{random.Random(path).getrandbits(256):064x}", f"run-of-{path}")


def tree(num_files):
    paths = [HOSTILE, *(f"/data/part-{i}.jsonl" for i in range(1, num_files))]
    files = tuple(LineageNode(artifact("corpus", path), documents={"train": 3, "dev": 1}) for path in paths)
    shards = LineageNode(
        artifact("shards", "runs/shards"),
        job="prepare",
        started="2026-01-01T00:00:00+00:00",
        finished="2026-01-01T00:01:00+00:00",
        user="ann",
        host="node-1",
        segmenter="punctuation_v1",
        config={
            "tracking": {"uri": "postgresql://me:secret@db/mlflow"},
            "data": {"inputs": ["/data/*"]},
            "segmenter": {"name": "punctuation_v1"},
        },
        metrics={"train/tokens": 1234567.0},
        versions={"torch": "2.13.0"},
        made_from=(*files, LineageNode(artifact("segmenter", "punctuation_v1"))),
    )
    lm = LineageNode(artifact("model", "runs/lm"), job="train-lm", made_from=(shards,))
    vae = LineageNode(artifact("model", "runs/vae"), job="train-vae", made_from=(shards, lm))
    return LineageNode(
        artifact("model", "runs/sllm"), job="train-sllm", note="replaced since", made_from=(shards, vae, lm)
    )


def test_each_artifact_has_one_card_and_many_files_share_one():
    cards = cards_of(tree(2000))
    assert len({card.node.key for card in cards}) == len(cards) == 6
    by_title = {card.node.title: card for card in cards}
    assert cards[0].node.title == "sllm" and cards[0].node.is_asked
    group = by_title["2,000 corpus files"]
    assert group.num_files == 2000 and len(group.files) == FILES_SHOWN
    assert group.node.key in by_title["shards"].node.parents
    assert set(by_title["sllm"].node.parents) == {by_title[name].node.key for name in ("shards", "vae", "lm")}
    few = cards_of(tree(2))
    assert len(few) == 7


def test_what_was_made_from_a_file_stands_below_it():
    model = LineageNode(artifact("model", "runs/lm"), job="train-lm")
    shards = LineageNode(artifact("shards", "runs/shards"), job="prepare", went_into=(model,))
    root = LineageNode(artifact("corpus", "a.jsonl"), went_into=(shards,))
    file, made, trained = cards_of(root)
    assert made.node.parents == (file.node.key,) and trained.node.parents == (made.node.key,)


def test_a_page_of_very_many_artifacts_says_what_it_leaves_out():
    models = tuple(LineageNode(artifact("model", f"runs/{i}"), job="train-lm") for i in range(10_000))
    html = page_of(LineageNode(artifact("corpus", "a.jsonl"), went_into=models, stale=models)).decode()
    assert html.count('<g class="box') == MOST_NODES and len(html) < 2_000_000
    assert f"{10_001 - MOST_NODES:,} more artifacts are not on this page" in html
    assert "runs/4, and 9,995 more" in html


def test_the_page_shows_the_graph_and_leads_to_the_cards(tmp_path, browser):
    page = tmp_path / "lineage.html"
    score = Score(1.25, "sllm", "punctuation_v1", "runs/report", 12, 3456)
    page.write_bytes(page_of(tree(2), [score]))
    html = page.read_text()
    assert "secret" not in html and "<img" not in html and not re.search("[\x1b\u202e]", html)
    assert dataclasses.asdict(tree(2))["artifact"]["digest"] in html

    def check(seen):
        fits(seen)
        assert_legible(seen, "p, h3, h3 span, dt, dd, td, summary, code")
        assert seen.locator("#scores tbody td").all_inner_texts() == [
            *("1.2500", "12", "punctuation_v1", "sllm", "runs/report")
        ]
        boxes = seen.locator(".graph a")
        assert boxes.count() == 7
        seen.locator(".graph a", has_text="shards").click()
        card = seen.locator("article:target")
        assert card.locator("h3").inner_text().startswith("shards")
        assert (
            "ann on node-1" in card.inner_text() and "1,234,567" not in card.locator("dl").first.inner_text()
        )
        card.locator("summary", has_text="Configuration").click()
        assert "postgresql://***@db/mlflow" in card.locator("pre").inner_text()

    browser.look(page, "lineage", check)


def test_the_page_of_two_shows_what_differs_and_both_graphs(tmp_path, browser):
    mine = tree(2)
    old = dataclasses.replace(mine.made_from[0].made_from[0], artifact=artifact("corpus", "/data/old.jsonl"))
    shards = dataclasses.replace(
        mine.made_from[0],
        artifact=artifact("shards", "runs/other-shards"),
        segmenter="spacy_v1",
        config={"segmenter": {"name": HOSTILE}},
        made_from=(old, *mine.made_from[0].made_from[1:]),
    )
    other = LineageNode(artifact("model", "runs/other"), job="train-sllm", made_from=(shards,))
    found = differences(mine, other)
    page = tmp_path / "differences.html"
    page.write_bytes(page_of_two("runs/sllm", "https://me:secret@host/other", mine, other, found))
    html = page.read_text()
    assert "secret" not in html and "<img" not in html and not re.search("[\x1b\u202e]", html)

    def check(seen):
        fits(seen)
        assert_legible(seen, "p, h3, h3 span, td, th, code")
        rows = seen.locator("#differences tbody tr")
        assert rows.count() == len(found) > 2
        assert any("prepare: segmenter.name" in text for text in rows.all_inner_texts())
        for name in ("sllm", "other", "shards", "other-shards"):
            assert seen.locator(".graph a", has=seen.get_by_text(name, exact=True)).count() == 1, name

    browser.look(page, "differences", check)
    same = page_of_two("a", "b", mine, mine, differences(mine, mine)).decode()
    assert f"a and b have the same content: SHA-256 {mine.artifact.digest}" in same
    assert same.count('<g class="box') == len(cards_of(mine))
