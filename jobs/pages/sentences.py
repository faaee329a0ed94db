"""Documents of shards with their sentences, as pages show them."""

import dataclasses
import json
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

import segmenters
from pipeline.shards.documents import Documents
from pipeline.shards.reading import Shards
from pipeline.tokenization.sentences import encode_documents
from pipeline.tokenization.tokenizer import Tokenizer
from segmenters import Segmenter, SegmenterError

_LOADED = ("punctuation_v1", "punctuation_v2", "reference_v1", "fixed_v1", "learned_v1", "learned_v2")
"""Segmenters that are loaded to see where the limit, not the segmenter, ended a sentence. No others: shards may be of
strangers, and a segmenter that they name could be code."""
_NO_LIMIT = 2**31 - 1
LONGEST_ID = 200
"""Characters shown of a document's id."""
LONGEST_SENTENCE = 1200
"""Characters shown of a sentence: its start and its end."""


@dataclasses.dataclass(frozen=True)
class ShownSentence:
    """A sentence of shards."""

    text: str
    tokens: int
    is_cut: bool = False
    """Whether it goes on in the next one: the limit of tokens ended it, not the segmenter."""

    @property
    def lines(self) -> list[str]:
        """Its lines, of a long sentence the start and the end, without the line break that ends the last one."""
        text = self.text
        if len(text) > LONGEST_SENTENCE:
            text = f"{text[: LONGEST_SENTENCE // 2]} […] {text[-LONGEST_SENTENCE // 2 :]}"
        return text.removesuffix("\n").split("\n")

    @property
    def ends_line(self) -> bool:
        """Whether a line break is its last character."""
        return self.text.endswith("\n")


@dataclasses.dataclass(frozen=True)
class ShownDocument:
    """The start of a document, or a part of it, in sentences."""

    doc_id: str
    why: str
    """Why it was chosen, such as `the longest document`."""
    sentences: tuple[ShownSentence, ...]
    first: int
    """Sentences of the document before the shown ones."""
    total_sentences: int
    total_tokens: int
    num_bytes: int

    @property
    def left_out(self) -> int:
        """Sentences after the shown ones."""
        return self.total_sentences - self.first - len(self.sentences)

    @property
    def num_cut(self) -> int:
        """Shown sentences that the limit ended."""
        return sum(one.is_cut for one in self.sentences)


def sampled(documents: Documents, count: int) -> list[int]:
    """Indexes of `count` documents at equal distances."""
    if documents.num_documents == 0 or count == 0:
        return []
    found = np.linspace(0, documents.num_documents - 1, min(count, documents.num_documents))
    return [int(index) for index in dict.fromkeys(found.astype(int).tolist())]


def extremes(documents: Documents) -> dict[int, str]:
    """Indexes of the longest document and of the one with the longest sentence, with those names."""
    if documents.num_documents == 0:
        return {}
    longest_sentence = int(documents.sentence_lengths.argmax())
    holder = int(np.searchsorted(documents.sentence_starts_N1, longest_sentence, side="right")) - 1
    longest = int(documents.token_counts_N.argmax())
    found = {longest: "the longest document", holder: "the document with the longest sentence"}
    if longest == holder:
        found[longest] = "the longest document, and the one with the longest sentence"
    return found


def shown_document(
    shards: Shards, documents: Documents, index: int, why: str, most_sentences: int, first: int = 0
) -> ShownDocument:
    """Document `index` of a split, up to `most_sentences` sentences from number `first` on."""
    tokenizer = shards.tokenizer()
    starts = documents.sentence_starts_N1
    lengths = documents.sentence_lengths[starts[index] : starts[index + 1]]
    shown = lengths[first : first + most_sentences]
    begin = int(documents.token_starts_N1[index]) + int(lengths[:first].sum())
    tokens = documents.tokens(begin, begin + int(shown.sum()))
    pieces = np.split(tokens, np.cumsum(shown)[:-1]) if len(shown) else []
    cut = _cut(shards, tokenizer, tokens, shown)
    return ShownDocument(
        documents.doc_ids(index)[:LONGEST_ID],
        why,
        tuple(
            ShownSentence(tokenizer.decode(piece), len(piece), is_cut)
            for piece, is_cut in zip(pieces, cut, strict=True)
        ),
        first,
        len(lengths),
        int(documents.token_counts_N[index]),
        int(documents.num_bytes_N[index]),
    )


def knows_cuts(shards: Shards) -> bool:
    """Whether it can be said here which sentences the limit ended."""
    return _segmenter_of(shards) is not None


def _segmenter_of(shards: Shards) -> Segmenter | None:
    fingerprint = shards.manifest.segmenter
    name, options = fingerprint.get("name"), fingerprint.get("options")
    if name not in _LOADED or not isinstance(options, dict):
        return None
    try:
        segmenter = segmenters.load(name, **options)
    except (SegmenterError, TypeError):
        return None
    same = json.loads(json.dumps(segmenter.fingerprint())) == json.loads(json.dumps(fingerprint))
    return segmenter if same else None


def _cut(
    shards: Shards, tokenizer: Tokenizer, tokens: NDArray[np.int32], lengths: NDArray[np.int32]
) -> Sequence[bool]:
    """For each sentence, whether the segmenter itself, asked again, ends none there; all False if that is not known."""
    nothing = [False] * len(lengths)
    # What the limit cuts leaves a piece of at least half the limit.
    if not len(lengths) or int(lengths.max()) * 2 < shards.manifest.max_sentence_tokens:
        return nothing
    segmenter = _segmenter_of(shards)
    if segmenter is None:
        return nothing
    ((again, uncut),) = encode_documents([tokenizer.decode(tokens)], segmenter, tokenizer, _NO_LIMIT)
    if not np.array_equal(again, tokens):
        return nothing
    ends = set(np.cumsum(uncut).tolist())
    return [end not in ends for end in np.cumsum(lengths).tolist()]
