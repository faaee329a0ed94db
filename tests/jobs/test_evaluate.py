"""What evaluation says beside its figures: of other segmenters, of text that a tokenizer loses, of one document."""

import json
import math
from pathlib import Path

import pytest
import tokenizers
from tokenizers import decoders, models, pre_tokenizers

from jobs import evaluate, prepare
from jobs.reports.evaluation import REPORT_FILE, read_report
from jobs.training import train_lm, train_sllm
from pipeline.config import load_config
from pipeline.errors import ModelError
from pipeline.shards.reading import open_shards
from pipeline.tokenization.tokenizer import Tokenizer

TRAIN = "{steps: 1, micro_batch_tokens: 256, micro_batches_per_step: 1, eval_every: 4, checkpoint_every: 4}"
TEXT = "The lazy dog sleeps. The quick fox jumps over it, and runs away! Does the dog wake? No. "


@pytest.fixture(scope="module")
def made(tmp_path_factory, empty_store):
    """A folder with a corpus, shards, and an SLLM trained on them; and how to configure a job there."""
    root = tmp_path_factory.mktemp("evaluate")
    rows = [{"id": f"{i}", "text": TEXT * (1 + i % 5) + f"Story {i} ends here."} for i in range(30)]
    (root / "corpus.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (root / "mlflow.db").write_bytes(empty_store.read_bytes())

    def config(output, *overrides):
        return load_config(
            None,
            [
                f"tracking.uri=sqlite:///{root}/mlflow.db", f'data.inputs=["{root}/corpus.jsonl"]', "launcher=local",
                "data.dev_fraction=0.3", "tokenizer.vocab_size=300", "prepare.num_workers=1", "lm.context_tokens=64",
                "sllm.context_sentences=8", f"lm.train={TRAIN}", f"sllm.train={TRAIN}", "sllm.trunk_from=config",
                "sllm.vae_from=config", "trunk.config.model_type=llama", "trunk.config.hidden_size=32",
                "trunk.config.num_hidden_layers=1",
                "trunk.config.intermediate_size=32", "trunk.config.num_attention_heads=2",
                "trunk.config.num_key_value_heads=2", "vae.num_heads=2",
                "prepare.max_sentence_tokens=30", f"output={root}/{output}", *overrides,
            ],
        )  # fmt: skip

    prepare.run(config("shards"))
    train_sllm.run(config("sllm", f"shards={root}/shards"))
    return root, config


def test_an_sllm_on_shards_of_another_segmenter_is_evaluated_and_said(made, capfd):
    root, config = made
    tokenizer = f"tokenizer.path={root}/shards/tokenizer"
    prepare.run(config("blind", "segmenter.name=fixed_v1", "segmenter.options={num_tokens: 4}", tokenizer))
    evaluate.run(config("blind-report", f"shards={root}/blind", f"models.sllm={root}/sllm"))
    assert "sllm was trained on sentences of learned_v2, and evaluated on those of fixed_v1" in " ".join(
        capfd.readouterr().out.split()
    )
    report = read_report(f"{root}/blind-report")
    assert (report["sllm"]["segmenter"], report["sllm"]["shards_segmenter"]) == ("learned_v2", "fixed_v1")
    evaluate.run(config("own-report", f"shards={root}/shards", f"models.sllm={root}/sllm"))
    assert "was trained on sentences of" not in capfd.readouterr().out
    assert "segmenter" not in read_report(f"{root}/own-report")["sllm"]


def test_a_continuous_cache_helps_text_that_repeats_itself(made):
    root, config = made
    train_lm.run(config("lm", f"shards={root}/shards"))
    models = (f"models.lm={root}/lm", f"models.sllm={root}/sllm")
    given = (f"shards={root}/shards", *models, "evaluate.ablations=false")
    evaluate.run(config("without", *given))
    evaluate.run(config("with", *given, "evaluate.cache_tokens=64"))
    without, found = (read_report(f"{root}/{name}") for name in ("without", "with"))
    assert set(found) - set(without) == {"lm_with_cache", "sllm_with_cache"}
    for name in ("lm", "sllm"):
        assert found[name] == without[name]
        assert found[f"{name}_with_cache"]["bits_per_byte"] < 0.9 * found[name]["bits_per_byte"]


def test_longer_sentences_than_the_models_are_refused_before_anything_is_evaluated(made, capfd):
    root, config = made
    tokenizer = f"tokenizer.path={root}/shards/tokenizer"
    long = (
        "segmenter.name=fixed_v1",
        "segmenter.options={num_tokens: 500}",
        "prepare.max_sentence_tokens=50",
    )
    prepare.run(config("long", *long, tokenizer))
    capfd.readouterr()
    with pytest.raises(ModelError, match=r"a sentence of \d+ tokens .* after 30: .*max_sentence_tokens=30"):
        evaluate.run(config("long-report", f"shards={root}/long", f"models.sllm={root}/sllm"))
    assert "evaluate: sllm" not in capfd.readouterr().err
    # Shards whose sentences might have been longer, and are not, can be evaluated.
    short = ("segmenter.name=fixed_v1", "segmenter.options={num_tokens: 4}", "prepare.max_sentence_tokens=50")
    prepare.run(config("short", *short, tokenizer))
    evaluate.run(config("short-report", f"shards={root}/short", f"models.sllm={root}/sllm"))


def test_with_one_document_no_other_ones_latents_are_taken(made, capfd):
    root, config = made
    shards = (f"shards={root}/shards", f"models.sllm={root}/sllm")
    evaluate.run(config("one-report", "evaluate.max_documents=1", *shards))
    assert "there is only one document" in capfd.readouterr().err
    report = read_report(f"{root}/one-report")
    assert report.keys() == {"unigram", "sllm", "sllm_latents_zeroed"}
    assert report["sllm"]["documents"] == 1


def test_shards_of_a_tokenizer_that_loses_text_are_said_with_a_count(made, capfd):
    root, config = made
    words = ["[UNK]", "[EOS]", "The", "lazy", "dog", "sleeps", ".", "here", "ends", "##s", *"0123456789"]
    backend = tokenizers.Tokenizer(
        models.WordPiece({word: i for i, word in enumerate(words)}, unk_token="[UNK]")  # noqa: S106
    )
    backend.pre_tokenizer, backend.decoder = pre_tokenizers.BertPreTokenizer(), decoders.WordPiece()
    Tokenizer(backend, {"eos_token": "[EOS]"}).save(root / "words")
    record = prepare.run(config("lossy", f"tokenizer.path={root}/words"))
    assert "warning: of 30 of 30 documents the token ids do not give the text back" in capfd.readouterr().err
    totals = open_shards(f"{root}/lossy").manifest.totals
    assert totals["train"].lossy_documents + totals["dev"].lossy_documents == 30
    assert record.metrics["dev/lossy_documents"] == totals["dev"].lossy_documents
    train_lm.run(config("lossy-lm", f"shards={root}/lossy"))
    capfd.readouterr()
    evaluate.run(config("lossy-report", f"shards={root}/lossy", f"models.lm={root}/lossy-lm"))
    printed = " ".join(capfd.readouterr().out.split())
    assert "(*) Bits per byte mean nothing here" in printed and "bits per byte (*)" in printed
    report = json.loads(Path(root, "lossy-report", REPORT_FILE).read_text())
    assert report["lm"]["lossy_documents"] == totals["dev"].lossy_documents
    assert math.isfinite(report["lm"]["perplexity_per_token"])


def test_a_byte_level_tokenizer_loses_nothing(made):
    root, _ = made
    totals = open_shards(f"{root}/shards").manifest.totals
    assert totals["train"].documents and not totals["train"].lossy_documents + totals["dev"].lossy_documents
