"""Reading finished shards (`format`): manifest, tokenizer, and the documents of a split."""

import functools
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from pipeline.config import StreamConfig
from pipeline.errors import ConfigError, ShardError
from pipeline.lineage import MANIFEST_NAME, digest_file
from pipeline.shards.cache import ShardCache
from pipeline.shards.documents import MEND, Documents
from pipeline.shards.format import TOKENIZER_FOLDER, SplitName
from pipeline.shards.manifest import PROGRESS, Manifest, ShardRecord
from pipeline.shards.verification import Verifier, damaged_shards
from pipeline.tokenization.tokenizer import Tokenizer


@dataclass(frozen=True)
class Shards:
    """A folder of finished shards."""

    folder: str
    """Folder or fsspec URL."""
    manifest: Manifest
    cache: ShardCache | None = None
    """Cache of remote shards; None for a local folder."""
    verifier: Verifier | None = None
    """Compares the checksums of local shards when they are first read; None: they are not compared."""

    def tokenizer(self) -> Tokenizer:
        """The tokenizer that made the ids. Raises `ShardError` where the folder has another one."""
        return self._tokenizer

    @functools.cached_property
    def _tokenizer(self) -> Tokenizer:
        folder = self.cache.tokenizer() if self.cache else Path(self.folder) / TOKENIZER_FOLDER
        try:
            tokenizer = Tokenizer.load(str(folder))
        except ConfigError as error:
            raise ShardError(f"the tokenizer of the shards in {self.folder!r} is damaged: {error}") from error
        check_tokenizer(self, tokenizer.digest)
        here = (tokenizer.bos_id, tokenizer.eos_id)
        if self.manifest.bos_eos not in (None, here):
            raise ShardError(
                f"shards {self.folder!r} were made with BOS and EOS of ids {self.manifest.bos_eos}; the tokenizer "
                f"there now has {here}: put back its tokenizer_config.json, or prepare again"
            )
        return tokenizer

    def records(self, split: SplitName) -> list[ShardRecord]:
        """The shards of a split."""
        return self._records[split]

    @functools.cached_property
    def _records(self) -> dict[SplitName, list[ShardRecord]]:
        # Kept: each block of an epoch asks for them, and the more shards there are, the more blocks.
        found: dict[SplitName, list[ShardRecord]] = {"train": [], "dev": []}
        for record in self.manifest.shards:
            found[record.split].append(record)
        return found

    def documents(self, split: SplitName, shards: Iterable[int] | None = None) -> Documents:
        """Documents of a split, or of some of its shards; remote shards are fetched and verified, local ones verified,
        large ones of them while they are read.

        Raises `ShardError` where a shard is missing or damaged; of a large local one, a later read does.
        """
        records = self.records(split)
        chosen = records if shards is None else [records[index] for index in shards]
        if self.cache is not None:
            files = list(zip(self.cache.fetch(chosen), chosen, strict=True))
        else:
            files = [(Path(self.folder) / record.file, record) for record in chosen]
        documents = Documents(files, self.tokenizer().vocab_size, self.verifier)
        if self.verifier is not None:
            self.verifier.begin(files)
        return documents

    def finish_verifying(self) -> None:
        """Wait until all local shards that were read are verified. Raises `ShardError` for a damaged one."""
        if self.verifier is not None:
            self.verifier.check(wait=True)

    def fetch_ahead(self, split: SplitName, shards: Iterable[int]) -> None:
        """Start to fetch remote shards that will be read next."""
        if self.cache is not None:
            records = self.records(split)
            self.cache.fetch_ahead([records[index] for index in shards])

    def damaged(self, on_done: Callable[[ShardRecord], object] = lambda record: None) -> list[ShardRecord]:
        """The shards whose bytes, in the folder or at the URL, have not the checksum of the manifest.

        `on_done` is called with each when it is compared.
        """
        sha256 = self.cache.sha256 if self.cache is not None else self._sha256
        return damaged_shards(self.manifest.shards, sha256, on_done)

    def _sha256(self, name: str) -> str | None:
        path = Path(self.folder) / name
        return digest_file(path) if path.is_file() else None

    def verify(self) -> None:
        """Compare the checksum of every shard. Raises `ShardError` that names the first that differs."""
        for record in self.damaged():
            raise ShardError(
                f"{self.folder.rstrip('/')}/{record.file} is damaged: its checksum is not that of the manifest; {MEND}"
            )


def open_shards(
    folder: str,
    options: StreamConfig = StreamConfig(),  # noqa: B008 - frozen
    verify: bool = True,
) -> Shards:
    """The finished shards in a folder or at an fsspec URL; `options` name the cache of remote ones. `verify`: whether
    the checksums of local ones are compared when they are first read; those of remote ones always are.

    Raises `ShardError` where there are none, or the manifest is damaged.
    """
    if "://" in folder:
        cache = ShardCache(folder, options)
        return Shards(folder, Manifest.parse(cache.read(MANIFEST_NAME), f"{folder}/{MANIFEST_NAME}"), cache)
    path = Path(folder)
    if not (path / MANIFEST_NAME).is_file():
        if (path / PROGRESS).is_dir():
            raise ShardError(
                f"shards {folder!r} are unfinished; run the same `sllm prepare` again to finish them"
            )
        raise ShardError(
            f"there are no shards in {folder!r} (no {MANIFEST_NAME}); make them with `sllm prepare`"
        )
    manifest = Manifest.parse((path / MANIFEST_NAME).read_bytes(), str(path / MANIFEST_NAME))
    return Shards(folder, manifest, verifier=Verifier() if verify else None)


def check_tokenizer(shards: Shards, digest: str) -> None:
    """Raise `ShardError` unless the shards were made with the tokenizer of this digest."""
    if shards.manifest.tokenizer_digest != digest:
        raise ShardError(
            f"shards {shards.folder!r} were made with another tokenizer (digest "
            f"{shards.manifest.tokenizer_digest[:12]}, here {digest[:12]}); prepare the corpus with this one"
        )


def mixing_weights(mixed: Sequence[Shards], weights: Sequence[float] | None) -> list[float]:
    """The weight of each of several shards, by default their train tokens.

    Raises `ConfigError` for another number of weights.
    """
    if weights is None:
        return [float(one.manifest.totals["train"].tokens) for one in mixed]
    if len(weights) != len(mixed):
        raise ConfigError(
            f"stream.weights has {len(weights)} weights for {len(mixed)} shards: give one for each"
        )
    return list(weights)
