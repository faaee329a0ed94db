import random
from pathlib import Path

import numpy as np
import torch

from segmenters.learned.networks import word_rows
from segmenters.learned.segmenter import Learned
from segmenters.learned.training.examples import Example
from segmenters.learned.training.features import features_of, vocabulary
from segmenters.learned.training.punctuated import PunctuatedModule, PunctuatedSettings, train_punctuated
from segmenters.learned.training.unpunctuated import (
    UnpunctuatedModule,
    UnpunctuatedSettings,
    train_unpunctuated,
)
from segmenters.learned.weights_file import load_weights, save_weights
from segmenters.scoring import score

PUNCTUATED = PunctuatedSettings(
    num_suffixes=64, width=8, hidden=(16,), steps=200, stretch=32, learning_rate=0.02, dropout=0.0
)
UNPUNCTUATED = UnpunctuatedSettings(
    num_suffixes=64,
    width=8,
    hidden=16,
    num_convolutions=2,
    steps=100,
    stretch=64,
    batch_stretches=16,
    learning_rate=0.02,
    dropout=0.0,
)
SIZES = {"before": str(PUNCTUATED.before), "after": str(PUNCTUATED.after), "unmarked_shift": "0"}


def made_text(rng: random.Random, end: str) -> Example:
    """Sentences that begin with "so" and end with `end`."""
    words = ["tree", "house", "river", "stone", "cloud"]
    parts = ["so " + " ".join(rng.choices(words, k=rng.randrange(3, 7))) for _ in range(12)]
    ends = np.cumsum([len(part) + len(end) + 1 for part in parts]) - 1
    return Example("".join(f"{part}{end} " for part in parts)[:-1], tuple(ends.tolist()))


def test_both_networks_learn_and_are_saved_and_adapted(tmp_path: Path) -> None:
    rng = random.Random(0)
    bare = [made_text(rng, "") for _ in range(40)]
    punctuated = [made_text(rng, "!") for _ in range(40)]
    check_V = vocabulary([features_of(text).word_W for text in (*bare, *punctuated)], None, num_words=64)

    def trained(file: Path) -> Path:
        tensors = train_punctuated(punctuated, PUNCTUATED, check_V).tensors()
        tensors |= train_unpunctuated(bare, bare[:5], UNPUNCTUATED, check_V).tensors()
        save_weights(file, {"word.check": check_V, **tensors}, SIZES)
        return file

    file = trained(tmp_path / "w.safetensors")
    assert score(Learned(weights=str(file)), [made_text(rng, "") for _ in range(5)]).f1 > 0.95
    assert score(Learned(weights=str(file)), [made_text(rng, "!") for _ in range(5)]).f1 > 0.95
    assert trained(tmp_path / "again.safetensors").read_bytes() == file.read_bytes()

    weights = load_weights(file)
    loaded_punctuated = PunctuatedModule(PUNCTUATED, len(check_V))
    loaded_punctuated.load(weights.punctuated)
    loaded_unpunctuated = UnpunctuatedModule(UNPUNCTUATED, len(check_V))
    loaded_unpunctuated.load(weights.unpunctuated)
    tensors = loaded_punctuated.tensors() | loaded_unpunctuated.tensors()
    save_weights(tmp_path / "same.safetensors", {"word.check": check_V, **tensors}, SIZES)
    same = Learned(weights=str(tmp_path / "same.safetensors"))
    assert score(same, bare).f1 == score(Learned(weights=str(file)), bare).f1


def test_the_network_in_numpy_is_the_one_that_was_trained(tmp_path: Path) -> None:
    rng = random.Random(1)
    check_V = vocabulary([features_of(made_text(rng, "")).word_W for _ in range(20)], None, num_words=64)
    torch.manual_seed(0)
    module = UnpunctuatedModule(UNPUNCTUATED, len(check_V)).eval()
    tensors = module.tensors() | PunctuatedModule(PUNCTUATED, len(check_V)).tensors()
    save_weights(tmp_path / "w.safetensors", {"word.check": check_V, **tensors}, SIZES)
    net = load_weights(tmp_path / "w.safetensors").unpunctuated
    module.load(net)  # the values as they are after rounding to int8
    row = features_of(Example(" ".join(made_text(rng, "").text for _ in range(40)), ()))
    word_W = word_rows(row.word_W, check_V)
    everywhere = np.flatnonzero(row.start_W >= 0)
    some = np.sort(np.random.default_rng(0).choice(everywhere, 150, replace=False))
    word_T = torch.from_numpy(np.where(row.start_W >= 0, word_W, 0))[None]
    columns = [row.suffix_W % np.uint64(64), row.shape_W, row.gap_W]
    with torch.no_grad():
        expected = module(word_T, *(torch.from_numpy(c.astype(np.int64))[None] for c in columns))[0][
            0
        ].numpy()
    assert np.allclose(net.logits(row, word_W, everywhere), expected[everywhere], atol=1e-4)
    assert np.allclose(net.logits(row, word_W, some), expected[some], atol=1e-4)
