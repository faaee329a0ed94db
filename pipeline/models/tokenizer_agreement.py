"""Whether a model and shards have the same tokenizer: decided by ids, since equal tokenizers may have different files.

With another tokenizer ids mean other tokens: nothing fails, but the output is meaningless.
"""

import functools
import logging
from pathlib import Path

import numpy as np
from transformers import PreTrainedConfig

from pipeline.errors import ConfigError, ModelError, ShardError
from pipeline.shards.reading import Shards
from pipeline.tokenization.tokenizer import Tokenizer

log = logging.getLogger("sllm")

PROBE_TEXTS = (
    "The quick brown fox doesn't jump; it's 3.14 (or 1,000,000) metres: naïve, co-operate, e.g. Mr. O'Neill's.",
    "Größe, façade, Ærøskøbing, İstanbul ıssız, Привет, мир! Καλημέρα κόσμε. გამარჯობა שלום עולם مرحبا بالعالم ١٢٣",
    "नमस्ते दुनिया สวัสดีชาวโลก 世界,你好。日本語のテキスト、カタカナ。 한국어 문장입니다. Xin chào thế giới",
    "def f(x: int) -> list[str]:\n\treturn [f'{x!r}' for _ in range(10)]  # comment\n\n\nfor (i = 0; i < n; ++i) {",
    "  two  blanks\t\ttabs \r\n  lines\n\n\n   and an end   ",
    "0 1 12 123 1234 12345 1e-10 0x1F 2026-01-31 50% €5 $3.00 ½ ² Ⅷ",
    "UPPER lower MiXeD <html><b>bold</b></html> https://example.org/a?b=c#d user@example.org #tag @name 🙂👩‍👩‍👧",
    "e\u0301 \u00e9 \ufb01 \u00a0\u3000\u2028\u200b \x00\x1c",
    "",
)
"""Several scripts, code, white space, digits, punctuation, and forms that normalisers change."""
_TOKENS_PROBED = 20_000
_TOKENIZER_FILES = (
    *("tokenizer.json", "tokenizer_config.json", "tokenizer.model", "vocab.json", "vocab.txt", "merges.txt"),
    *("spiece.model", "sentencepiece.bpe.model"),
)


def check_model_tokenizer(model_path: str, model_config: PreTrainedConfig, shards: Shards) -> None:
    """Raise `ModelError` unless the model's tokenizer is that of the shards.

    The configuration of our models has the digest of the tokenizer and the ids of BOS and EOS; if they equal those of
    the shards, nothing else is compared. Otherwise the tokenizer in the model's folder is compared; if it has none, a
    warning is printed.
    """
    used = shards.tokenizer()
    digest = getattr(model_config, "tokenizer_digest", None) or None
    is_same = digest == shards.manifest.tokenizer_digest
    if is_same and getattr(model_config, "tokenizer_bos_eos", None) == [used.bos_id, used.eos_id]:
        return
    own, missing = tokenizer_beside(model_path)
    if own is not None:
        found = difference(own, used)
        if found is not None:
            raise ModelError(
                f"the model in {model_path} has another tokenizer than the shards in {shards.folder} ({found}): "
                f"prepare with tokenizer.path={model_path}"
            )
    elif digest is not None and not is_same:
        raise ModelError(
            f"the model in {model_path} was trained with tokenizer {digest[:12]}, the shards in {shards.folder} were "
            f"made with {shards.manifest.tokenizer_digest[:12]}: use the shards that the model was trained on, or put "
            f"its tokenizer beside it and prepare with tokenizer.path={model_path}"
        )
    elif digest is None:
        _say_once(
            f"warning: the model in {model_path} is taken to have the tokenizer of the shards in {shards.folder}, "
            f"which was not compared: {missing}"
        )


def check_own_tokenizer(model_path: str, model_config: PreTrainedConfig, tokenizer: Tokenizer) -> None:
    """Raise `ModelError` where the tokenizer in a model's folder is not the one that the model was trained with."""
    digest = getattr(model_config, "tokenizer_digest", None) or tokenizer.digest
    bos_eos = [model_config.bos_token_id, model_config.eos_token_id]
    if digest != tokenizer.digest or bos_eos != [tokenizer.bos_id, tokenizer.eos_id]:
        raise ModelError(
            f"the tokenizer in {model_path} is not the one that the model was trained with (another vocabulary, other "
            "rules, or another BOS or EOS): put back the one of the model's shards, in their folder tokenizer/"
        )


def check_mixed(mixed: list[Shards]) -> None:
    """Raise `ShardError` unless all shards have the same tokenizer, BOS and EOS."""
    first = mixed[0]
    for other in mixed[1:]:
        same = other.manifest.tokenizer_digest == first.manifest.tokenizer_digest
        if same and other.manifest.bos_eos == first.manifest.bos_eos:
            continue
        found = difference(other.tokenizer(), first.tokenizer())
        if found is not None:
            raise ShardError(
                f"shards {other.folder!r} and {first.folder!r} were made with different tokenizers ({found}): prepare "
                f"one again with tokenizer.path={first.folder}/tokenizer"
            )


def tokenizer_beside(path: str) -> tuple[Tokenizer | None, str]:
    """The tokenizer in a model's folder or hub name; or None and the reason.

    Raises `ModelError` for a damaged `tokenizer.json`.
    """
    folder = Path(path)
    if folder.is_dir() and not any((folder / name).is_file() for name in _TOKENIZER_FILES):
        return None, "there is no tokenizer in its folder"
    try:
        return Tokenizer.load(path), ""
    except ConfigError as error:
        if (folder / "tokenizer.json").is_file():
            raise ModelError(f"the tokenizer of the model in {path} is damaged: {error}") from error
        return None, str(error)


def difference(own: Tokenizer, used: Tokenizer) -> str | None:
    """The first difference between the results of `own` and `used`, in a few words; None where they are equal."""
    here, there = own.vocabulary, used.vocabulary
    if here != there:
        changed = [token for token in here.keys() | there.keys() if here.get(token) != there.get(token)]
        token = min(changed)
        example = f"{token!r} has id {here.get(token, 'none')}, there {there.get(token, 'none')}"
        sizes = f"{len(here):,} tokens, there {len(there):,}; " if len(here) != len(there) else ""
        return f"{sizes}{len(changed):,} tokens have other ids: {example}"
    probes = _probes(used)
    for text, mine, theirs in zip(probes, own.encode(probes), used.encode(probes), strict=True):
        if mine.ids.tolist() != theirs.ids.tolist():
            return f"{text[:40]!r} becomes {mine.ids.tolist()[:8]}, there {theirs.ids.tolist()[:8]}"
    for name, mine_id, their_id in (
        ("BOS", own.named_bos_id, used.bos_id),
        ("EOS", own.named_eos_id, used.eos_id),
    ):
        if mine_id is not None and mine_id != their_id:
            return f"its {name} has id {mine_id}, there {their_id}"
    return None


def _probes(tokenizer: Tokenizer) -> list[str]:
    """`PROBE_TEXTS`, the special tokens, and texts of this tokenizer's own tokens: alone, and in random sequences."""
    ids = np.array(sorted(tokenizer.vocabulary.values()))
    sequences = np.random.default_rng(0).choice(ids, (_TOKENS_PROBED // 8, 8)).tolist()
    alone = [[i] for i in ids[:: len(ids) // _TOKENS_PROBED + 1].tolist()]
    texts = [*PROBE_TEXTS, "".join(tokenizer.added_tokens), *map(tokenizer.decode, [*alone, *sequences])]
    return [text.encode(errors="replace").decode() for text in texts]


@functools.cache
def _say_once(line: str) -> None:
    log.warning(line)
