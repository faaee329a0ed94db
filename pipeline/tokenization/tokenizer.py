"""Text to token ids and token ends: any Hugging Face fast tokenizer, or a byte-level BPE trained here."""

import functools
import hashlib
import itertools
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import tokenizers
from numpy.typing import NDArray

from pipeline.errors import ConfigError
from pipeline.tokenization.bpe_training import byte_level_bpe
from pipeline.tokenization.byte_level import PROBES, ByteLevelEncoder, is_supported
from pipeline.tokenization.special_tokens import folder_config
from pipeline.tokenization.token_ends import Aligner, Untouched, ends_by_length, keeps_bytes, lengths_in_bytes

MAX_VOCAB_SIZE = 2**22
"""About 15 times the largest vocabularies in use."""


@dataclass(frozen=True)
class TokenizedText:
    """The T tokens of one text."""

    ids: NDArray[np.int32]
    """[T] token ids."""
    ends: NDArray[np.int64]
    """[T] where each token ends: a character offset, exclusive, non-decreasing, the last `len(text)`.

    A token that ends inside a character has the end of that character, so of tokens with equal ends the last one
    completes it.
    """


class Tokenizer:
    """A Hugging Face fast tokenizer that adds no special tokens and encodes those in a text as ordinary text."""

    def __init__(self, backend: tokenizers.Tokenizer, config: dict[str, Any]):
        """`config` is the content of `tokenizer_config.json`: names of the special tokens, and the like.

        Raises `ConfigError` without tokens, with an id so high that tables by id would fill the memory, or where BOS
        or EOS is no text.
        """
        ids = backend.get_vocab(with_added_tokens=True).values()
        if not ids or max(ids) >= MAX_VOCAB_SIZE:
            highest = f"a token of id {max(ids)}, {MAX_VOCAB_SIZE - 1} is the highest" if ids else "no tokens"
            raise ConfigError(f"the tokenizer has {highest}")
        backend.no_truncation()
        backend.no_padding()
        backend.encode_special_tokens = True
        self._backend = backend
        self._config = config
        for kind in ("bos_token", "eos_token"):
            try:
                (self._content(kind) or "").encode()
            except UnicodeEncodeError as error:
                raise ConfigError(f"the tokenizer's {kind} {self._content(kind)!r} is no text") from error

    @classmethod
    def load(cls, path_or_name: str) -> "Tokenizer":
        """Load a folder with `tokenizer.json`, or any folder or hub name that `transformers` can load.

        Raises `ConfigError` where there is no such tokenizer, or only one without a fast backend.
        """
        folder = Path(path_or_name)
        file = folder / "tokenizer.json"
        try:
            if file.is_file():
                backend = tokenizers.Tokenizer.from_file(str(file))
                return cls(backend, folder_config(folder, backend))
            # Its import takes seconds, so only if the folder alone is not enough.
            from transformers import AutoTokenizer, PreTrainedTokenizerFast

            tokenizer = AutoTokenizer.from_pretrained(path_or_name, trust_remote_code=False)
        except Exception as error:
            if isinstance(error, ValueError) and "trust_remote_code" in str(error):
                raise ConfigError(
                    f"tokenizer.path={path_or_name!r} has code of its own (auto_map), which is never run: give a "
                    "folder with tokenizer.json"
                ) from error
            reason = next(iter(str(error).splitlines()), type(error).__name__)
            raise ConfigError(
                f"tokenizer.path={path_or_name!r} cannot be loaded: {reason}; "
                f"give a folder with tokenizer.json, or the hub name of a fast tokenizer"
            ) from error
        if not isinstance(tokenizer, PreTrainedTokenizerFast):
            raise ConfigError(
                f"tokenizer.path={path_or_name!r} has no fast (Rust) tokenizer; convert it first"
            )
        special = {name: str(value) for name, value in tokenizer.special_tokens_map.items()}
        return cls(tokenizers.Tokenizer.from_str(tokenizer.backend_tokenizer.to_str()), special)

    @classmethod
    def from_files(cls, files: Mapping[str, str | bytes]) -> "Tokenizer":
        """The tokenizer from the result of `files`."""
        return cls(
            tokenizers.Tokenizer.from_buffer(_utf8(files["tokenizer.json"])),
            json.loads(files["tokenizer_config.json"]),
        )

    @classmethod
    def train(cls, texts: Iterable[str], vocab_size: int) -> "Tokenizer":
        """A byte-level BPE (arXiv 1909.03341; GPT-2's pattern) of at most `vocab_size` tokens."""
        return cls(*byte_level_bpe(texts, vocab_size))

    def save(self, folder: str | Path) -> None:
        """Write `tokenizer.json` and `tokenizer_config.json`, which `AutoTokenizer` loads too."""
        folder = Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        for name, text in self.files().items():
            (folder / name).write_text(text, encoding="utf-8")

    def files(self) -> dict[str, str]:
        """Name and text of each file of the saved folder."""
        config = {"tokenizer_class": "PreTrainedTokenizerFast", **self._config}
        return {
            "tokenizer.json": self._backend.to_str(pretty=True),
            "tokenizer_config.json": json.dumps(config, indent=2, ensure_ascii=False) + "\n",
        }

    @property
    def _tree(self) -> dict[str, Any]:
        return json.loads(self._backend.to_str())

    @functools.cached_property
    def digest(self) -> str:
        """SHA-256 (hex) of the parts that decide the ids: model, normalizer, pre-tokenizer and added tokens."""
        parts = {key: self._tree[key] for key in ("model", "normalizer", "pre_tokenizer", "added_tokens")}
        return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()

    @property
    def vocab_size(self) -> int:
        """Number of token ids, added tokens among them: every id is below it."""
        return max(self._backend.get_vocab(with_added_tokens=True).values()) + 1

    @property
    def vocabulary(self) -> dict[str, int]:
        """Id of each token, added tokens among them."""
        return self._backend.get_vocab(with_added_tokens=True)

    @property
    def added_tokens(self) -> list[str]:
        """Tokens beside the model's own, special ones among them, by id."""
        return [token.content for _, token in sorted(self._backend.get_added_tokens_decoder().items())]

    @functools.cached_property
    def named_bos_id(self) -> int | None:
        """Id of the token named as BOS; None where none is named."""
        return self._special_id("bos_token")

    @functools.cached_property
    def named_eos_id(self) -> int | None:
        """Id of the token named as EOS; None where none is named."""
        return self._special_id("eos_token")

    @property
    def bos_id(self) -> int:
        """Id of BOS, which begins a text; that of EOS where there is no BOS. Raises `ConfigError` without either."""
        return self._either(self.named_bos_id, self.named_eos_id)

    @property
    def eos_id(self) -> int:
        """Id of EOS, which ends a text; that of BOS where there is no EOS. Raises `ConfigError` without either."""
        return self._either(self.named_eos_id, self.named_bos_id)

    def with_bos_eos(self, bos_token: str | None, eos_token: str | None) -> "Tokenizer":
        """The same tokenizer, with these tokens of its vocabulary as BOS and EOS; none: unchanged.

        Raises `ConfigError` where it has no such token, or neither BOS nor EOS.
        """
        named = {"bos_token": bos_token, "eos_token": eos_token}
        given = {kind: token for kind, token in named.items() if token is not None}
        renamed = Tokenizer(self._backend, {**self._config, **given}) if given else self
        for kind in named:
            token = renamed._content(kind)
            if token is not None and self._backend.token_to_id(token) is None:
                raise ConfigError(
                    f"the tokenizer's {kind} {token!r} is no token of its vocabulary: name one with "
                    f"tokenizer.{kind}=TOKEN"
                )
        _ = renamed.bos_id
        return renamed

    def _content(self, kind: str) -> str | None:
        token = self._config.get(kind)
        content = token.get("content") if isinstance(token, dict) else token
        return content if isinstance(content, str) and content else None

    def _special_id(self, kind: str) -> int | None:
        content = self._content(kind)
        return None if content is None else self._backend.token_to_id(content)

    def _either(self, first: int | None, second: int | None) -> int:
        found = first if first is not None else second
        if found is not None:
            return found
        special = ", ".join(self.added_tokens[:8])
        raise ConfigError(
            "the tokenizer has neither BOS nor EOS (a token that begins, or ends, a text): name one of its tokens with "
            f"`sllm prepare tokenizer.bos_token=TOKEN tokenizer.eos_token=TOKEN`; its added tokens: {special or 'none'}"
        )

    def decode(self, ids: Sequence[int] | NDArray[np.integer]) -> str:
        """The text of these ids, special tokens shown."""
        return self._backend.decode([int(i) for i in ids], skip_special_tokens=False)

    def encode(self, texts: list[str]) -> list[TokenizedText]:
        """Ids and token ends of each text; texts must be free of lone surrogates."""
        is_exact = list(map(self._keeps, texts))
        exact = list(itertools.compress(texts, is_exact))
        ids = self._encode_ids(exact)
        ends = ends_by_length(exact, [self.token_bytes[x] for x in ids])
        by_length = map(TokenizedText, ids, ends)
        others = [text for text, keeps in zip(texts, is_exact, strict=True) if not keeps]
        aligned = itertools.starmap(TokenizedText, self._aligner.encode(others) if others else ())
        return [next(by_length) if keeps else next(aligned) for keeps in is_exact]

    def _keeps(self, text: str) -> bool:
        """Whether the tokens of `text` are its bytes."""
        return self._untouched is not None and self._untouched(text)

    @functools.cached_property
    def _untouched(self) -> Untouched | None:
        tree = self._tree
        return Untouched(tree) if keeps_bytes(tree) else None

    @functools.cached_property
    def _aligner(self) -> Aligner:
        try:
            return Aligner(self._tree)
        except Exception as error:  # of `tokenizers`, which raises nothing narrower
            raise ConfigError(f"the tokenizer is damaged: {error}; get it again") from error

    def loses(self, texts: list[str], ids: Sequence[NDArray[np.int32]]) -> list[bool]:
        """Whether the ids of each text decode to a different text: a part is unknown, normalized or dropped.

        A space that the tokenizer adds before a text is no loss. Costs little for a byte-level tokenizer.
        """
        asked = [not self._keeps(text) for text in texts]
        if not any(asked):
            return asked
        chosen = [x.tolist() for x in itertools.compress(ids, asked)]
        if self._backend.decoder is None:  # then `decode` would put spaces between tokens
            given = ["".join(map(str, map(self._backend.id_to_token, x))) for x in chosen]
        else:
            given = self._backend.decode_batch(chosen, skip_special_tokens=False)
        back = iter(given)
        return [
            is_asked and next(back) not in (text, " " + text)
            for text, is_asked in zip(texts, asked, strict=True)
        ]

    def _encode_ids(self, texts: list[str]) -> list[NDArray[np.int32]]:
        """Of texts that are `Untouched`: those that the faster engine covers."""
        if self._byte_level is None or not texts:
            encodings = self._backend.encode_batch_fast(texts, add_special_tokens=False)
            return [np.array(encoding.ids, np.int32) for encoding in encodings]
        ids, counts = self._byte_level.encode(texts)
        return np.split(ids, np.cumsum(counts)[:-1])

    @property
    def engine(self) -> str:
        """The engine that computes the ids: `byte-level words` (several times faster, the same ids) or `tokenizers`."""
        return "tokenizers" if self._byte_level is None else "byte-level words"

    @functools.cached_property
    def _byte_level(self) -> ByteLevelEncoder | None:
        tree = self._tree
        if not is_supported(tree):
            return None
        try:
            encoder = ByteLevelEncoder(self._backend, tree)
        except KeyError:  # a merge of, or into, a token that the vocabulary lacks
            return None
        probes = list(filter(encoder.covers, PROBES))
        ids, counts = encoder.encode(probes)
        theirs = self._backend.encode_batch_fast(probes, add_special_tokens=False)
        same = [x.tolist() for x in np.split(ids, np.cumsum(counts)[:-1])] == [x.ids for x in theirs]
        return encoder if same else None

    @functools.cached_property
    def token_bytes(self) -> NDArray[np.int64]:
        """For each id the UTF-8 bytes that the token decodes to after another one."""
        tokens = self._backend.get_vocab(with_added_tokens=True)
        added = {token.content for token in self._backend.get_added_tokens_decoder().values()}
        lengths = np.zeros(self.vocab_size, np.int64)
        lengths[list(tokens.values())] = lengths_in_bytes(self._backend, self._tree, tokens, added)
        return lengths


def _utf8(text: str | bytes) -> bytes:
    return text.encode() if isinstance(text, str) else text
