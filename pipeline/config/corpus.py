"""What text is read, and how it becomes shards."""

from typing import Any, Literal

from pydantic import Field

from pipeline.config.section import Bytes, Count, Section


class FilterConfig(Section):
    """An optional step that drops documents (`pipeline/corpus/filters.py`)."""

    name: Literal["length", "language", "exact_duplicates", "near_duplicates"]
    """Which one."""
    options: dict[str, Any] = Field(default={})
    """Its options, such as `{min_characters: 200}` or `{languages: [en, de]}`."""


class DataConfig(Section):
    """Which text to read, and how."""

    inputs: tuple[str, ...] = ()
    """Files, folders, globs or fsspec URLs; `datasets:NAME[:SPLIT]`; `python-docs:` for the documentation
    that comes with Python and the packages installed beside it."""
    dev_inputs: tuple[str, ...] = ()
    """Inputs whose documents all go to the dev split."""
    dev_fraction: float = Field(default=0.0, ge=0.0, lt=1.0)
    """Share of the documents of `inputs` that goes to the dev split, chosen by a hash of the document id."""
    format: Literal["auto", "text", "jsonl", "parquet", "arrow", "csv"] = "auto"
    """Format of the files; `auto` goes by the file name."""
    text_field: str = "text"
    """Field or column that holds the text."""
    id_field: str = "id"
    """Field or column that holds the document id; where it is missing, `file#row` is used."""
    max_bytes: Bytes | None = None
    """Stop after about this many bytes of text (a whole number of documents), for trials."""
    max_document_bytes: Bytes = 256 * 2**20
    """A larger document is rejected."""
    filters: tuple[FilterConfig, ...] = ()
    """Steps that drop documents, in this order; what they drop is counted apart from what is rejected."""
    max_rejected_fraction: float = Field(default=0.01, ge=0.0, le=1.0)
    """Share of documents that may be rejected before the job fails."""


class SegmenterConfig(Section):
    """Which segmenter cuts the text."""

    name: str = "punctuation_v1"
    """A versioned name (`sllm segment --list` shows all) or `package.module:Class`."""
    options: dict[str, Any] = Field(default={})
    """Options of that segmenter."""


class TokenizerConfig(Section):
    """Which tokenizer, or how to train one."""

    path: str | None = None
    """Folder or hub name of a Hugging Face fast tokenizer; none: a byte-level BPE is trained on the corpus."""
    bos_token: str | None = None
    """Token of its vocabulary that begins a text (BOS); none: the one it names, else its EOS."""
    eos_token: str | None = None
    """Token of its vocabulary that ends a text (EOS); none: the one it names, else its BOS."""
    vocab_size: int = Field(default=8192, ge=260, lt=2**31)
    """Vocabulary of a trained tokenizer."""
    train_bytes: Bytes = 32 * 2**20
    """Bytes of text, from the start of the corpus, that a tokenizer is trained on."""


class PrepareConfig(Section):
    """How text becomes shards."""

    num_workers: Count = 2
    """Workers that read, segment, tokenize and write: Ray actors or processes, as `launcher` says."""
    split_bytes: Bytes | None = None
    """Bytes of (uncompressed) input text in one split, the unit of work; a split makes one shard. None: a 64th
    of the corpus, but between 2 and 64 MiB."""
    max_sentence_tokens: Count = 64
    """A longer sentence is split at its best inner place, never cut off."""
    overwrite: bool = False
    """Replace shards in `output` that were made with another tokenizer, segmenter or options."""
