import numpy as np
import torch

from segmenters.learned.networks import FIRST_WORD
from segmenters.learned.training.examples import Example
from segmenters.learned.training.features import features_of, labels, neighbour_vectors, set_words, vocabulary


def test_words_in_the_same_contexts_get_similar_vectors() -> None:
    rng = np.random.default_rng(0)
    # rows 2 and 3 are between 4 and 5, row 6 between 7 and 8
    runs = [(4, 2, 5), (4, 3, 5), (7, 6, 8)]
    word_W = np.concatenate([[0, 0, *runs[i], 0, 0] for i in rng.integers(0, 3, 300)])
    vectors = neighbour_vectors(word_W, 12, 4, seed=0)
    near, far = np.linalg.norm(vectors[2] - vectors[3]), np.linalg.norm(vectors[2] - vectors[6])
    assert near < 0.2 * far
    assert not vectors[9:].any() and not vectors[:FIRST_WORD].any()
    embedding = torch.nn.Embedding(12, 3)
    unseen = embedding.weight[10].clone()
    set_words(embedding, vectors)
    assert torch.equal(embedding.weight[10], unseen)
    assert not torch.equal(embedding.weight[2], unseen)


def test_labels_are_of_the_words_that_begin_a_sentence() -> None:
    example = Example("so it is  so it was", (9, 19))
    features = features_of(example)
    words = features.start_W >= 0
    assert labels(features, example)[words].tolist() == [False, False, False, True, False, False]


def test_the_vocabulary_has_the_frequent_words_alone() -> None:
    hashes = np.array([64 + 3, 64 + 3, 64 + 3, 128 + 5], np.uint64)
    check_V = vocabulary([hashes], None, num_words=64)
    assert np.flatnonzero(check_V).tolist() == [3]
    known_V = np.zeros(64, np.uint16)
    known_V[[3, 7]] = 9
    assert vocabulary([hashes], known_V, num_words=64)[[3, 7]].tolist() == [9, 9]
