"""Sentences as runs of a document's tokens: cut at token boundaries, never truncated, without loss."""

import numpy as np
from numpy.typing import NDArray

from pipeline.tokenization.tokenizer import Tokenizer
from segmenters import Segmenter
from segmenters.contract import check_ends

_MID_CHARACTER, _CHARACTER, _WHITE_SPACE, _PUNCTUATION, _LINE_BREAK = b"\0", b"\1", b"\2", b"\3", b"\4"
_BEST_FIRST = (_LINE_BREAK, _PUNCTUATION, _WHITE_SPACE, _CHARACTER, _MID_CHARACTER)
"""Kinds of token boundary, the best for splitting a long sentence first."""


def sentence_lengths(
    text: str,
    sentence_ends: NDArray[np.int64],
    token_ends: NDArray[np.int64],
    max_sentence_tokens: int,
) -> NDArray[np.int32]:
    """Lengths, in tokens, of the sentences of `text`; positive, and their sum is the number of tokens.

    Each sentence ends at the token boundary nearest to the segmenter's end (of two at equal distance, the earlier); a
    sentence without tokens is dropped. A sentence over `max_sentence_tokens` is split in the second half of each run of
    that many tokens: after the last line break, else after a pause (, ; : and others), else at white space, else
    between characters, else anywhere.

    Args:
        text: the document.
        sentence_ends: [S] character offsets, exclusive, as a `Segmenter` gives them.
        token_ends: [T] character offsets, as `TokenizedText.ends`.
        max_sentence_tokens: limit, at least 1.

    """
    num_tokens = len(token_ends)
    if num_tokens == 0:
        return np.zeros(0, np.int32)
    # Boundary e is after token e-1. Of several boundaries at one offset, a character ends at the last.
    is_whole = np.append(token_ends[1:] != token_ends[:-1], True)
    edges = np.concatenate([[0], np.flatnonzero(is_whole) + 1])
    offsets = np.concatenate([[0], token_ends[is_whole]])
    after = np.minimum(np.searchsorted(offsets, sentence_ends), len(offsets) - 1)
    before = np.maximum(after - 1, 0)
    earlier = sentence_ends - offsets[before] <= offsets[after] - sentence_ends
    chosen = np.zeros(num_tokens + 1, bool)
    chosen[edges[np.where(earlier, before, after)]] = True
    chosen[num_tokens] = True
    chosen[0] = True
    cuts = np.flatnonzero(chosen)
    too_long = np.flatnonzero(np.diff(cuts) > max_sentence_tokens)
    if len(too_long):
        starts, sizes = cuts[too_long], np.diff(cuts)[too_long]
        # The boundaries inside those sentences, concatenated.
        firsts = np.cumsum(sizes) - sizes
        edges_in = np.arange(sizes.sum()) + np.repeat(starts - firsts, sizes)
        qualities = _edge_qualities(text, token_ends, is_whole, edges_in)
        inner = [
            start - first + np.array(_inner_cuts(qualities, first, first + size, max_sentence_tokens))
            for start, first, size in zip(starts.tolist(), firsts.tolist(), sizes.tolist(), strict=True)
        ]
        chosen[np.concatenate(inner)] = True
        cuts = np.flatnonzero(chosen)
    return np.diff(cuts).astype(np.int32)


def encode_documents(
    texts: list[str], segmenter: Segmenter, tokenizer: Tokenizer, max_sentence_tokens: int
) -> list[tuple[NDArray[np.int32], NDArray[np.int32]]]:
    """For each document its token ids [T] and sentence lengths [S], which sum to T.

    Raises `SegmenterError` where the segmenter breaks its contract.
    """
    tokenized = tokenizer.encode(texts)
    ends = segmenter.split(texts)
    # One pass over all documents, joined by one character so that no two share a boundary.
    starts = np.cumsum([0, *(len(text) + 1 for text in texts)])
    token_starts = np.cumsum([0, *(len(document.ids) for document in tokenized)])
    joined_ends = np.concatenate([np.zeros(0, np.int64), *ends])
    joined_ends += np.repeat(starts[:-1], [len(x) for x in ends])
    if not _keeps_contract(texts, ends, starts, joined_ends):
        for text, text_ends in zip(texts, ends, strict=True):
            check_ends(text, text_ends)
    joined_token_ends = np.concatenate([np.zeros(0, np.int64), *(document.ends for document in tokenized)])
    joined_token_ends += np.repeat(starts[:-1], np.diff(token_starts))
    without_tokens = np.flatnonzero(np.diff(token_starts) == 0)
    if len(without_tokens):
        joined_ends = joined_ends[
            ~np.isin(np.searchsorted(starts, joined_ends, side="right") - 1, without_tokens)
        ]
    joined_lengths = sentence_lengths("\n".join(texts), joined_ends, joined_token_ends, max_sentence_tokens)
    sentence_starts = np.searchsorted(np.cumsum(joined_lengths), token_starts, side="right")
    return [
        (document.ids, joined_lengths[start:end])
        for document, start, end in zip(tokenized, sentence_starts[:-1], sentence_starts[1:], strict=True)
    ]


def _keeps_contract(
    texts: list[str], ends: list[NDArray[np.int64]], starts: NDArray[np.int64], joined_ends: NDArray[np.int64]
) -> bool:
    """`check_ends` of all texts at once."""
    counts = np.array([len(x) for x in ends], np.int64)
    sizes = np.diff(starts) - 1
    if not np.array_equal(counts > 0, sizes > 0):
        return False
    last = np.cumsum(counts)[counts > 0] - 1
    first = (np.cumsum(counts) - counts)[counts > 0]
    begins = starts[:-1][counts > 0]
    return (
        bool(np.all(np.diff(joined_ends) > 0))
        and bool(np.all(joined_ends[first] > begins))
        and np.array_equal(joined_ends[last], begins + sizes[sizes > 0])
    )


def _edge_qualities(
    text: str, token_ends: NDArray[np.int64], is_whole: NDArray[np.bool_], edges: NDArray[np.int64]
) -> bytes:
    """One byte of `_BEST_FIRST` per edge; an edge before the first token has that of a character."""
    codes: NDArray[np.integer]
    if text.isascii():
        codes = np.frombuffer(text.encode("ascii"), np.uint8)
    else:
        codes = np.frombuffer(text.encode("utf-32-le"), np.uint32)
    ends = token_ends[edges - 1]

    def classes(offsets: NDArray[np.int64]) -> NDArray[np.uint8]:
        return _CLASSES[np.minimum(codes[offsets].astype(np.int64), len(_CLASSES) - 1)]

    last = classes(np.maximum(ends - 1, 0))
    following = classes(np.minimum(ends, len(text) - 1))
    white_space = np.where(following >= _WHITE_SPACE[0], _WHITE_SPACE[0], _CHARACTER[0])
    quality = np.maximum(last, np.where(following == _PUNCTUATION[0], _CHARACTER[0], white_space))
    quality = np.where(is_whole[edges - 1], quality, _MID_CHARACTER[0])
    return np.where(edges == 0, _CHARACTER[0], quality).astype(np.uint8).tobytes()


def _inner_cuts(qualities: bytes, start: int, end: int, limit: int) -> list[int]:
    cuts = []
    while end - start > limit:
        low, high = start + (limit + 1) // 2, start + limit + 1
        start = next(cut for quality in _BEST_FIRST if (cut := qualities.rfind(quality, low, high)) > 0)
        cuts.append(start)
    return cuts


def _character_classes() -> NDArray[np.uint8]:
    classes = np.full(0x10001, _CHARACTER[0], np.uint8)
    for code in range(0x10000):
        if chr(code).isspace():
            classes[code] = _WHITE_SPACE[0]
    for character in ",;:，；：、،؛·—–":
        classes[ord(character)] = _PUNCTUATION[0]
    for character in "\n\r\v\f\x1c\x1d\x1e\x85\u2028\u2029":
        classes[ord(character)] = _LINE_BREAK[0]
    return classes


_CLASSES = _character_classes()
"""[65537] `_CHARACTER` to `_LINE_BREAK` by code point; the last stands for all above."""
