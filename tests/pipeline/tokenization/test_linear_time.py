"""Token ids, token ends and sentences of one enormous word cost time in proportion to it, whatever is repeated."""

import time

import pytest

from pipeline.tokenization.sentences import encode_documents
from pipeline.tokenization.tokenizer import Tokenizer
from segmenters import load

SMALL, TIMES = 20_000, 8
NOISE_SECONDS = 0.02
"""Below it a machine's other work decides."""


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    texts = [
        f"The quick fox {i} jumps over the lazy dog. aaaa bbbb abab == -- 中文。é" * 3 for i in range(50)
    ]
    return Tokenizer.train(texts, 600)


@pytest.mark.parametrize(
    "piece", ["a", "ab", "=", "1", " ", "\n", "中", "e\u0301", "🙂", "a" * 250 + " ", "'s", "a "]
)
def test_time_is_linear(tokenizer: Tokenizer, piece: str) -> None:
    """Quadratic work costs 64 times as much, linear work 8 times; the bound is 24."""
    segmenter = load("punctuation_v1")

    def seconds(size: int) -> float:
        fresh = Tokenizer.from_files(tokenizer.files())  # remembers no word
        fresh.encode(["It warms up."])
        text = piece * (size // len(piece))
        start = time.process_time()
        encode_documents([text], segmenter, fresh, max_sentence_tokens=64)
        return time.process_time() - start

    least, most = NOISE_SECONDS / TIMES, float("inf")
    for _ in range(4):
        least, most = max(least, seconds(SMALL)), min(most, seconds(TIMES * SMALL))
        if most < 3 * TIMES * least:
            return
    pytest.fail(f"{TIMES} times the text took {most / least:.0f} times as long")
