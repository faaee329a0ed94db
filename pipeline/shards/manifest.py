"""The manifest of a folder of shards: its content, and what it was made from."""

from collections import Counter
from collections.abc import Sequence
from typing import Annotated, Any, Literal, Self

from pydantic import AliasChoices, BaseModel, ConfigDict, Field, ValidationError, model_validator

from pipeline.config.section import LongCount
from pipeline.errors import ShardError
from pipeline.lineage import MANIFEST_NAME, identity_digest
from pipeline.unique_keys import read_json

SHARD_FORMAT_VERSION = 1
PROGRESS = "progress"
"""Folder with a file per finished work unit; it is removed when the manifest is written."""


AtLeastOne = Annotated[int, Field(ge=1, lt=2**63)]


class _Record(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class InputFile(_Record):
    """A file of the corpus."""

    name: str
    path: str
    sha256: str
    num_bytes: int
    """Bytes of text."""
    is_dev: bool


class Identity(_Record):
    """Everything the shards are a function of; equal identities, equal bytes."""

    format_version: int
    inputs: tuple[InputFile, ...]
    data: dict[str, Any]
    """Options of reading that change the documents."""
    segmenter: dict[str, Any]
    """Fingerprint."""
    tokenizer_digest: str
    max_sentence_tokens: int = Field(ge=1, lt=2**31)
    work_unit_bytes: LongCount = Field(validation_alias=AliasChoices("work_unit_bytes", "split_bytes"))

    def differences(self, other: "Identity") -> list[str]:
        """The differences, one short line each; the paths of the files do not count."""
        mine, others = self._comparable(), other._comparable()
        dev, now = self._dev_inputs(), other._dev_inputs()
        mine["dev inputs"], others["dev inputs"] = ", ".join(dev) or None, ", ".join(now) or None
        if sorted(self._named()) == sorted(other._named()):
            mine["order of inputs"], others["order of inputs"] = list(self._named()), list(other._named())
        return [
            f"{key}: {_short(mine.get(key))} there, {_short(others.get(key))} now"
            for key in sorted(mine.keys() | others.keys())
            if mine.get(key) != others.get(key)
        ]

    def _named(self) -> dict[str, InputFile]:
        """The inputs by name; of two with the same name the second has ` (2)` after it."""
        named: dict[str, InputFile] = {}
        counts: Counter[str] = Counter()
        for file in self.inputs:
            counts[file.name] += 1
            number = counts[file.name]
            named[file.name if number == 1 else f"{file.name} ({number})"] = file
        return named

    def _dev_inputs(self) -> list[str]:
        return [name for name, file in self._named().items() if file.is_dev]

    def _comparable(self) -> dict[str, Any]:
        named = self._named().items()
        flat: dict[str, Any] = {f"input {name}": f"sha256 {file.sha256}" for name, file in named}
        for key, value in self.model_dump(exclude={"inputs"}).items():
            nested = (
                {f"{key}.{name}": item for name, item in value.items()} if isinstance(value, dict) else None
            )
            flat.update(nested if nested is not None else {key: value})
        return flat


class ShardRecord(_Record):
    """One shard file."""

    file: str
    split: Literal["train", "dev"]
    index: LongCount
    """Index of its work unit."""
    documents: AtLeastOne
    sentences: AtLeastOne
    tokens: AtLeastOne
    num_bytes: LongCount
    """UTF-8 bytes of the documents' text."""
    lossy_documents: LongCount = 0
    """Documents whose token ids decode to another text: the tokenizer does not know some characters, or changes
    them."""
    file_bytes: LongCount
    sha256: str = Field(pattern=r"^[0-9a-f]{64}\z")
    """Of the file."""
    documents_by_input: dict[int, LongCount] = {}
    """Documents by corpus file: its index in the identity's `inputs`. Empty in shards of versions that did not count
    them."""

    @model_validator(mode="after")
    def _is_named_after_its_split(self) -> Self:
        # So that it never names a file in another folder.
        if self.file != shard_name(self.split, self.index):
            raise ValueError(f"{self.file!r} is no name of a {self.split} shard of work unit {self.index}")
        return self


def shard_name(split: Literal["train", "dev"], index: int) -> str:
    """File name of a work unit's shard of train or dev."""
    return f"{split}-{index:05d}.arrow"


class Totals(_Record):
    """Sums over the shards of a split."""

    documents: LongCount = 0
    sentences: LongCount = 0
    tokens: LongCount = 0
    num_bytes: LongCount = 0
    lossy_documents: LongCount = 0
    """Documents whose token ids decode to another text; their bits per byte are meaningless."""


class Manifest(_Record):
    """`manifest.json`: it is written last, so its presence means that the shards are complete."""

    identity: Identity
    num_work_units: LongCount = Field(validation_alias=AliasChoices("num_work_units", "num_splits"))
    """A work unit makes up to one shard of train and one of dev."""
    shards: tuple[ShardRecord, ...]
    totals: dict[Literal["train", "dev"], Totals]
    rejected: dict[str, int]
    """Rejections by reason; each is listed in `rejected.jsonl`."""
    filtered: dict[str, int] = {}
    """Documents that filters dropped, by filter; each is listed in `rejected.jsonl` too."""
    bos_eos: tuple[LongCount, LongCount] | None = None
    """Ids of BOS and EOS, which are added when shards are read, and are in no shard. None in shards of versions that
    did not store them."""
    digest: str
    """SHA-256 (hex) of the identity and of every shard's checksum."""

    @model_validator(mode="after")
    def _adds_up(self) -> Self:
        if self.totals != _totals(self.shards):
            raise ValueError("the totals are not the sums over the shards")
        if len({shard.file for shard in self.shards}) < len(self.shards):
            raise ValueError("a shard is named twice")
        if any(shard.index >= self.num_work_units for shard in self.shards):
            raise ValueError(f"a shard is of a work unit past the last of {self.num_work_units}")
        return self

    @classmethod
    def of(
        cls,
        identity: Identity,
        num_work_units: int,
        shards: list[ShardRecord],
        rejected: dict[str, int],
        filtered: dict[str, int],
        bos_eos: tuple[int, int] | None = None,
    ) -> "Manifest":
        """The manifest of finished shards."""
        shards = sorted(shards, key=lambda shard: (shard.split != "train", shard.index))
        digest = identity_digest([identity._comparable(), [[shard.file, shard.sha256] for shard in shards]])
        return cls(
            identity=identity,
            num_work_units=num_work_units,
            shards=tuple(shards),
            totals=_totals(shards),
            rejected=dict(sorted(rejected.items())),
            filtered=dict(sorted(filtered.items())),
            bos_eos=bos_eos,
            digest=digest,
        )

    @classmethod
    def parse(cls, text: bytes, where: str) -> "Manifest":
        """The manifest in the bytes of `manifest.json`. Raises `ShardError` where it is damaged or of another
        version."""
        try:
            tree = read_json(text, MANIFEST_NAME)
            version = tree["identity"]["format_version"]
        except (ValueError, KeyError, TypeError) as error:
            raise ShardError(f"{where} is damaged ({error}); run `sllm prepare` again") from error
        if version != SHARD_FORMAT_VERSION:
            raise ShardError(
                f"{where}: the shards are of format version {version}, this program reads {SHARD_FORMAT_VERSION}; "
                f"run `sllm prepare` again, or use the program that wrote them"
            )
        try:
            return cls.model_validate(tree)
        except ValidationError as error:
            first = error.errors()[0]
            what = ": ".join([".".join(map(str, first["loc"])), first["msg"].removeprefix("Value error, ")])
            raise ShardError(f"{where} is damaged ({what.lstrip(': ')}); run `sllm prepare` again") from error

    def documents_of(self, sha256: str) -> dict[str, int] | None:
        """Documents of train and dev from a corpus file with this content; None where the file is not among the inputs,
        or the shards have no such counts."""
        indexes = {i for i, file in enumerate(self.identity.inputs) if file.sha256 == sha256}
        if not indexes or not all(shard.documents_by_input for shard in self.shards):
            return None
        found = {"train": 0, "dev": 0}
        for shard in self.shards:
            found[shard.split] += sum(shard.documents_by_input.get(i, 0) for i in indexes)
        return found

    @property
    def tokenizer_digest(self) -> str:
        """Digest of the tokenizer that made the ids."""
        return self.identity.tokenizer_digest

    @property
    def segmenter(self) -> dict[str, Any]:
        """Fingerprint of the segmenter that cut the sentences."""
        return self.identity.segmenter

    @property
    def max_sentence_tokens(self) -> int:
        """Limit of tokens per sentence."""
        return self.identity.max_sentence_tokens


def _totals(shards: Sequence[ShardRecord]) -> dict[Literal["train", "dev"], Totals]:
    found: dict[Literal["train", "dev"], Totals] = {}
    for split in ("train", "dev"):
        of_split = [shard for shard in shards if shard.split == split]
        found[split] = Totals(
            documents=sum(shard.documents for shard in of_split),
            sentences=sum(shard.sentences for shard in of_split),
            tokens=sum(shard.tokens for shard in of_split),
            num_bytes=sum(shard.num_bytes for shard in of_split),
            lossy_documents=sum(shard.lossy_documents for shard in of_split),
        )
    return found


def _short(value: Any) -> str:
    text = "nothing" if value is None else str(value)
    return text if len(text) <= 40 else text[:37] + "..."
