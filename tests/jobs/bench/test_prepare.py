"""The benchmark of preparing: every contender that works is measured."""

import json

import jobs.bench.prepare
from jobs.bench.prepare import CONTENDERS, bench_prepare
from pipeline.tokenization.tokenizer import Tokenizer


def test_a_contender_that_fails_is_named_and_the_others_are_measured(tmp_path, monkeypatch, capsys):
    texts = [f"Document {i} has one sentence. And another one." for i in range(20)]
    (tmp_path / "a.jsonl").write_text("".join(json.dumps({"text": text}) + "\n" for text in texts))
    Tokenizer.train(texts, 300).save(tmp_path / "tokenizer")
    engine = CONTENDERS["our engine alone"]
    # Its process knows no such contender.
    monkeypatch.setattr(jobs.bench.prepare, "CONTENDERS", {"broken": engine, "our engine alone": engine})
    (measured,) = bench_prepare(
        str(tmp_path / "a.jsonl"), str(tmp_path / "tokenizer"), num_workers=1, as_json=True
    )
    assert measured.contender == "our engine alone"
    assert measured.cpu_seconds > 0
    printed = capsys.readouterr()
    assert printed.err == "broken: failed, left out: KeyError: 'broken'\n"
    assert json.loads(printed.out)["bytes"] == sum(map(len, texts))
