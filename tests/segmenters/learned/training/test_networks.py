import random
from pathlib import Path

import numpy as np
import torch

from segmenters.learned.networks import FIRST_WORD, word_rows
from segmenters.learned.segmenter import Learned
from segmenters.learned.training.examples import Example
from segmenters.learned.training.features import neighbour_vectors, set_words, units_of, vocabulary
from segmenters.learned.training.punctuated import MarkedModule, MarkedSettings, train_marked
from segmenters.learned.training.unpunctuated import UnmarkedModule, UnmarkedSettings, train_unmarked
from segmenters.learned.weights_file import load_weights, save_weights
from segmenters.scoring import score

MARKED = MarkedSettings(
    num_suffixes=64, width=8, hidden=(16,), steps=200, stretch=32, learning_rate=0.02, dropout=0.0
)
UNMARKED = UnmarkedSettings(
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
SIZES = {"before": str(MARKED.before), "after": str(MARKED.after), "unmarked_shift": "0"}


def made_text(rng: random.Random, end: str) -> Example:
    """A sentence begins with "so"; with `end=" ;"` marks are near, but do not tell."""
    words = ["tree", "house", "river", "stone", "cloud"]
    parts = ["so " + " ".join(rng.choices(words, k=rng.randrange(3, 7))) for _ in range(12)]
    ends = np.cumsum([len(part) + len(end) + 1 for part in parts]) - 1
    return Example("".join(f"{part}{end} " for part in parts)[:-1], tuple(ends.tolist()))


def test_both_networks_learn_and_are_saved_and_adapted(tmp_path: Path) -> None:
    rng = random.Random(0)
    bare = [made_text(rng, "") for _ in range(40)]
    marked = [made_text(rng, "!") for _ in range(40)]
    check_V = vocabulary([units_of(text).word_U for text in (*bare, *marked)], None, num_words=64)

    def trained(file: Path) -> Path:
        tensors = train_marked(marked, MARKED, check_V).tensors()
        tensors |= train_unmarked(bare, bare[:5], UNMARKED, check_V).tensors()
        save_weights(file, {"word.check": check_V, **tensors}, SIZES)
        return file

    file = trained(tmp_path / "w.safetensors")
    assert score(Learned(weights=str(file)), [made_text(rng, "") for _ in range(5)]).f1 > 0.95
    assert score(Learned(weights=str(file)), [made_text(rng, "!") for _ in range(5)]).f1 > 0.95
    assert trained(tmp_path / "again.safetensors").read_bytes() == file.read_bytes()

    weights = load_weights(file)
    loaded_marked = MarkedModule(MARKED, len(check_V))
    loaded_marked.load(weights.marked)
    loaded_unmarked = UnmarkedModule(UNMARKED, len(check_V))
    loaded_unmarked.load(weights.unmarked)
    tensors = loaded_marked.tensors() | loaded_unmarked.tensors()
    save_weights(tmp_path / "same.safetensors", {"word.check": check_V, **tensors}, SIZES)
    same = Learned(weights=str(tmp_path / "same.safetensors"))
    assert score(same, bare).f1 == score(Learned(weights=str(file)), bare).f1


def test_the_network_in_numpy_is_the_one_that_was_trained(tmp_path: Path) -> None:
    rng = random.Random(1)
    check_V = vocabulary([units_of(made_text(rng, "")).word_U for _ in range(20)], None, num_words=64)
    torch.manual_seed(0)
    module = UnmarkedModule(UNMARKED, len(check_V)).eval()
    tensors = module.tensors() | MarkedModule(MARKED, len(check_V)).tensors()
    save_weights(tmp_path / "w.safetensors", {"word.check": check_V, **tensors}, SIZES)
    net = load_weights(tmp_path / "w.safetensors").unmarked
    module.load(net)  # the values as they are after rounding to int8
    row = units_of(Example(" ".join(made_text(rng, "").text for _ in range(40)), ()))
    word_U = word_rows(row.word_U, check_V)
    everywhere = np.flatnonzero(row.start_U >= 0)
    some = np.sort(np.random.default_rng(0).choice(everywhere, 150, replace=False))
    word_T = torch.from_numpy(np.where(row.start_U >= 0, word_U, 0))[None]
    columns = [row.suffix_U % np.uint64(64), row.shape_U, row.gap_U]
    with torch.no_grad():
        expected = module(word_T, *(torch.from_numpy(c.astype(np.int64))[None] for c in columns))[0][
            0
        ].numpy()
    assert np.allclose(net.logits(row, word_U, everywhere), expected[everywhere], atol=1e-4)
    assert np.allclose(net.logits(row, word_U, some), expected[some], atol=1e-4)


def test_words_in_the_same_places_begin_near_each_other() -> None:
    rng = np.random.default_rng(0)
    # rows 2 and 3 stand between 4 and 5, row 6 between 7 and 8
    runs = [(4, 2, 5), (4, 3, 5), (7, 6, 8)]
    word_U = np.concatenate([[0, 0, *runs[i], 0, 0] for i in rng.integers(0, 3, 300)])
    vectors = neighbour_vectors(word_U, 12, 4, seed=0)
    near, far = np.linalg.norm(vectors[2] - vectors[3]), np.linalg.norm(vectors[2] - vectors[6])
    assert near < 0.2 * far
    assert not vectors[9:].any() and not vectors[:FIRST_WORD].any()
    embedding = torch.nn.Embedding(12, 3)
    unseen = embedding.weight[10].clone()
    set_words(embedding, vectors)
    assert torch.equal(embedding.weight[10], unseen)
    assert not torch.equal(embedding.weight[2], unseen)
