import json
from pathlib import Path

import pytest

from jobs.inspect import show
from jobs.prepare import prepare
from pipeline.config import load_config
from pipeline.errors import ShardError

TEXTS = [f"Document {i} is here. It has {i} lines.\nAnd a last sentence. " + "More, " * i for i in range(12)]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Shards of twelve documents, one line rejected."""
    rows = [json.dumps({"id": f"d{i}", "text": text}) for i, text in enumerate(TEXTS)]
    (tmp_path / "a.jsonl").write_text("\n".join([*rows, "broken"]))
    overrides = [
        "launcher=local",
        "prepare.num_workers=1",
        "tokenizer.vocab_size=300",
        "data.dev_fraction=0.3",
    ]
    config = load_config(
        None, [f"data.inputs=[{tmp_path}/a.jsonl]", "data.max_rejected_fraction=0.1", *overrides]
    )
    prepare(config, str(tmp_path / "out"))
    return tmp_path / "out"


def test_the_report_counts_what_was_prepared(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    show(str(folder), as_json=True)
    report = json.loads(capsys.readouterr().out)
    assert sum(report["splits"][split]["documents"] for split in ("train", "dev")) == 12
    assert sum(report["splits"][split]["num_bytes"] for split in ("train", "dev")) == sum(map(len, TEXTS))
    assert report["rejected"] == {"broken JSON": 1} and report["damaged"] == []
    train = report["splits"]["train"]
    assert sum(train["sentence_tokens"]["histogram"].values()) == train["sentences"]
    assert train["sentence_tokens"]["mean"] == pytest.approx(train["tokens"] / train["sentences"])
    assert train["sentence_tokens"]["max"] <= report["max_sentence_tokens"]


def test_samples_show_where_sentences_end_and_the_plot_is_drawn(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    show(str(folder), samples=1, plot=str(tmp_path / "lengths.png"))
    shown = capsys.readouterr().out
    assert "Document 0 is here.│" in shown and "lines.⏎│" in shown
    assert "intact" in shown and "1 broken JSON" in shown
    assert (tmp_path / "lengths.png").read_bytes().startswith(b"\x89PNG")


def test_one_flipped_bit_is_found(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    shard = next(folder.glob("train-*.arrow"))
    content = bytearray(shard.read_bytes())
    content[len(content) // 2] ^= 1
    shard.write_bytes(content)
    with pytest.raises(ShardError, match=f"{shard.name}.*checksum"):
        show(str(folder), as_json=True)
    assert json.loads(capsys.readouterr().out)["damaged"] == [shard.name]
    show(str(folder), as_json=True, verify=False)
    with pytest.raises(ShardError, match=f"{shard.name}.*checksum"):
        show(str(folder), html=str(folder / "page.html"))
    assert f"Damaged: {shard.name}." in (folder / "page.html").read_text()
