"""The protocol of the store of shards, and the tokenizer in it."""

from collections.abc import Iterator
from typing import Any, Protocol

from pipeline.errors import ConfigError, ShardError
from pipeline.shards.format import TOKENIZER_FILES, TOKENIZER_FOLDER
from pipeline.tokenization.tokenizer import Tokenizer

_TRAINED_ON = f"{TOKENIZER_FOLDER}/trained_on.sha256"


class ShardStore(Protocol):
    """Files by name (`tokenizer/tokenizer.json`), each of which appears whole or not at all.

    It can be pickled, since it is sent to the workers. Errors of the storage are `SllmError`.
    """

    url: str
    """Absolute path or URL, for messages; it means the same in every process."""

    def names(self) -> list[str]:
        """Names of all files, sorted."""

    def read(self, name: str) -> bytes | None:
        """The file's bytes; None where there is none."""

    def lines(self, name: str) -> Iterator[bytes]:
        """The file's lines with their ends; no lines where there is no such file."""

    def sha256(self, name: str) -> str | None:
        """SHA-256 (hex) of the file; None where there is none."""

    def write(self, name: str, data: Any) -> None:
        """Write all of `data` (bytes or a buffer) or nothing; an older file of this name is replaced."""

    def remove(self, names: list[str]) -> None:
        """Delete those of these files that are there."""


def store_tokenizer(store: ShardStore, tokenizer: Tokenizer, trained_on: str | None) -> None:
    """Write the tokenizer, and the digest of its training data if it was trained here."""
    for name, text in tokenizer.files().items():
        store.write(f"{TOKENIZER_FOLDER}/{name}", text.encode())
    if trained_on is not None:
        store.write(_TRAINED_ON, trained_on.encode())


def stored_tokenizer(store: ShardStore, trained_on: str | None = None) -> Tokenizer | None:
    """The tokenizer in the store; with `trained_on`, only if its training data have this digest."""
    if trained_on is not None and store.read(_TRAINED_ON) != trained_on.encode():
        return None
    files = {name: store.read(f"{TOKENIZER_FOLDER}/{name}") for name in TOKENIZER_FILES}
    present = {name: content for name, content in files.items() if content is not None}
    try:
        return Tokenizer.from_files(present) if len(present) == len(files) else None
    except (ValueError, ConfigError):
        return None  # damaged: the same as missing


def check_bos_eos(store: ShardStore, tokenizer: Tokenizer) -> None:
    """Raise `ShardError` where the store holds shards of this tokenizer with another BOS or EOS."""
    name = "tokenizer_config.json"
    if store.read(f"{TOKENIZER_FOLDER}/{name}") in (None, tokenizer.files()[name].encode()):
        return
    stored = stored_tokenizer(store)
    if stored is None or stored.digest != tokenizer.digest:
        return  # another identity, which is checked elsewhere
    there = (stored.named_bos_id, stored.named_eos_id)
    here = (tokenizer.named_bos_id, tokenizer.named_eos_id)
    if there != here:
        raise ShardError(
            f"output {store.url!r} holds shards with BOS and EOS of ids {there[0]} and {there[1]}; the "
            f"tokenizer now has {here[0]} and {here[1]}: choose another output, or replace them with --force"
        )
