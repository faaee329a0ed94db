"""`sllm bench stream` measures every contender on the same shards and says what is padding."""

import json

import pytest

from jobs.bench.stream import BatchSizes, bench_stream
from jobs.prepare import prepare
from pipeline.config import load_config
from pipeline.errors import ConfigError

SHAPE = BatchSizes(micro_batch_tokens=256, context_tokens=32, context_sentences=8, seconds=0.02)


def shards(root, *overrides):
    texts = [f"Document {i}. It has {i} more sentences. " + "And one. " * i for i in range(40)]
    (root / "a.jsonl").write_text("".join(json.dumps({"text": text}) + "\n" for text in texts))
    base = [
        f"data.inputs=[{root}/a.jsonl]",
        "launcher=local",
        "prepare.num_workers=1",
        "tokenizer.vocab_size=300",
    ]
    prepare(load_config(None, [*base, *overrides]), str(root / "out"))
    return str(root / "out")


def test_every_contender_is_measured(tmp_path, capsys):
    results = bench_stream(shards(tmp_path), SHAPE, as_json=True)
    report = json.loads(capsys.readouterr().out)
    assert [row["contender"] for row in report["contenders"]] == [row.contender for row in results]
    assert all(row.tokens_per_second > 0 for row in results)
    token_level, sentence_level = (
        row for row in results if row.contender in ("sllm, token-level", "sllm, sentence-level")
    )
    assert 0 <= token_level.padding < 0.5 and token_level.trunk_padding is None
    assert 0 <= sentence_level.padding < 0.5 and 0 <= sentence_level.trunk_padding < 0.5
    assert report["plan"]["block_bytes_per_token"] > 0


def test_shards_without_train_documents_are_refused(tmp_path):
    with pytest.raises(ConfigError, match="no train split"):
        bench_stream(shards(tmp_path, "data.inputs=[]", f"data.dev_inputs=[{tmp_path}/a.jsonl]"), SHAPE)
