"""Blocks of N tokens, as a control for segmentation into sentences."""

import dataclasses
import functools
import re
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from segmenters.contract import Ends, Segmenter, SegmenterError

_WORD_OR_PUNCTUATION = re.compile(r"(?:\w+|[^\w\s])\s*")
_LONE_SURROGATES = re.compile("[\ud800-\udfff]")


@dataclasses.dataclass(frozen=True)
class Fixed(Segmenter):
    """Cuts after every `num_tokens` tokens."""

    name: ClassVar[str] = "fixed_v1"

    num_tokens: int = 24
    """Tokens per sentence; the default is about the mean of English sentences."""
    tokenizer: str | None = None
    """Folder with a `tokenizer.json`, or that file; none: a token is a word or a punctuation mark."""

    def __post_init__(self) -> None:
        if self.num_tokens < 1:
            raise SegmenterError(f"fixed_v1: num_tokens is {self.num_tokens}, but must be at least 1")
        if self.tokenizer is not None:
            _tokenizer(self.tokenizer)

    def split(self, texts: list[str]) -> list[Ends]:
        """See `Segmenter.split`."""
        return [self._ends(text) for text in texts]

    def _ends(self, text: str) -> Ends:
        if self.tokenizer is None:
            token_ends = [match.end() for match in _WORD_OR_PUNCTUATION.finditer(text)]
            cuts = token_ends[self.num_tokens - 1 :: self.num_tokens]
        else:
            offsets = _tokenizer(self.tokenizer).encode(_LONE_SURROGATES.sub("\ufffd", text)).offsets
            cuts = [end for _, end in offsets[self.num_tokens - 1 :: self.num_tokens] if end > 0]
        return np.unique(np.array([*cuts, len(text)] if text else [], np.int64))


@functools.lru_cache(maxsize=4)
def _tokenizer(path: str) -> Any:
    from tokenizers import Tokenizer

    file = Path(path) / "tokenizer.json" if Path(path).is_dir() else Path(path)
    try:
        tokenizer = Tokenizer.from_file(str(file))
    except Exception as error:  # the library raises no narrower class
        raise SegmenterError(f"fixed_v1: cannot read the tokenizer {file}: {error}") from error
    tokenizer.no_truncation()
    return tokenizer
