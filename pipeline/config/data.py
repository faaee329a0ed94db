"""What text is read, and how it becomes shards."""

import codecs
from typing import Any, Literal

from pydantic import Field, field_validator

from pipeline.config.paths import InputString, ModelPathString, PathOptions
from pipeline.config.section import Bytes, Count, Section
from segmenters import DEFAULT_SEGMENTER


class FilterConfig(Section):
    """An optional step that drops documents (`pipeline/corpus/filters.py`)."""

    name: Literal["length", "language", "exact_duplicates", "near_duplicates"]
    """Which one."""
    options: dict[str, Any] = Field(default={})
    """Its options, such as `{min_characters: 200}` or `{languages: [en, de]}`."""


class DataConfig(Section):
    """Which text to read, and how."""

    inputs: tuple[InputString, ...] = ()
    """Files, folders, globs or fsspec URLs; `datasets:NAME[:SPLIT]`; `python-docs:` for the documentation
    that comes with Python and the packages installed beside it."""
    dev_inputs: tuple[InputString, ...] = ()
    """Inputs whose documents all go to the dev split."""
    dev_fraction: float = Field(default=0.0, ge=0.0, lt=1.0)
    """Share of the documents of `inputs` that goes to the dev split, chosen by a hash of the document's own id, or
    of its text where it has none."""
    format: Literal["auto", "text", "jsonl", "parquet", "arrow", "csv", "conllu"] = "auto"
    """Format of the files; `auto` detects it from content and name."""
    text_field: str = "text"
    """Field or column that holds the text; `meta.text` is also the field `text` in the object or struct `meta`."""
    id_field: str = "id"
    """Field or column that holds the document id. Where it is missing, the id is `FILE#ROW@DIGEST`, made from the
    file's name, the row and the text."""
    delimiter: str | None = None
    """Delimiter of CSV, one ASCII character. None: the one that the file name implies (`.tsv`: a tab), or else the one
    with which the header has the text column."""
    encoding: str = "utf-8"
    """Encoding of text, JSONL, CSV and CoNLL-U: the name of a codec of Python."""
    max_bytes: Bytes | None = None
    """Stop after about this many bytes of text, for trials; the last document is read whole."""
    document_bytes: Bytes | Literal["auto"] | None = None
    """Cut each plain text file into documents of about this many bytes (so many to twice as many): at a blank line,
    else at a line end, the end of a sentence, or white space. `dev_fraction` of them, evenly spaced in the file, go to
    the dev split; at least one of a single file. `auto`: a 200th of the text, but between 256 and 8192 bytes. None: a
    file is one document."""
    max_document_bytes: Bytes = 256 * 2**20
    """A larger document is rejected."""
    filters: tuple[FilterConfig, ...] = ()
    """Steps that drop documents, in this order. Dropped documents are counted separately from rejected ones."""
    max_rejected_fraction: float = Field(default=0.01, ge=0.0, le=1.0)
    """Largest share of documents (or of broken lines) that may be rejected; above it the job fails."""

    @field_validator("delimiter")
    @classmethod
    def _is_one_character(cls, value: str | None) -> str | None:
        if value == r"\t":  # as a shell passes it
            return "\t"
        if value is not None and (len(value) != 1 or not value.isascii() or value in '"\r\n\0'):
            raise ValueError('must be one ASCII character, and neither a quote nor a line end, such as ";"')
        return value

    @field_validator("encoding")
    @classmethod
    def _is_known(cls, value: str) -> str:
        try:
            name = codecs.lookup(value).name
            b"a".decode(value, "replace")  # refused by rot13 and the like, and by idna
            codecs.getincrementaldecoder(value)().decode(b"", final=True)
            "".encode(value)
        except (LookupError, UnicodeError, ValueError) as error:
            raise ValueError(
                f"there is no text encoding {value!r}; Python's names are such as utf-8, utf-16, latin-1, cp1252"
            ) from error
        return "utf-8" if name == "utf-8-sig" else name


class SegmenterConfig(Section):
    """Which segmenter cuts the text."""

    name: str = DEFAULT_SEGMENTER
    """A versioned name (`sllm segment --list` shows all) or `package.module:Class`."""
    options: PathOptions = Field(default={})
    """Options of that segmenter."""


class TokenizerConfig(Section):
    """Which tokenizer, or how to train one."""

    path: ModelPathString | None = None
    """Folder, GGUF file (`sllm[graft]`) or hub name of a Hugging Face fast tokenizer; none: a byte-level BPE is trained
    on the corpus."""
    bos_token: str | None = None
    """Token of its vocabulary that begins a text (BOS); none: the BOS that the tokenizer names, else its EOS."""
    eos_token: str | None = None
    """Token of its vocabulary that ends a text (EOS); none: the EOS that the tokenizer names, else its BOS."""
    vocab_size: int = Field(default=8192, ge=260, lt=2**31)
    """Vocabulary size of a trained tokenizer."""
    train_bytes: Bytes = 32 * 2**20
    """Bytes of text, from the start of the corpus, that a tokenizer is trained on."""


class PrepareConfig(Section):
    """How text becomes shards."""

    num_workers: Count | None = None
    """Workers that survey, read, segment, tokenize and write, each with one core: Ray actors or processes, as
    `launcher` says. None: one for each CPU that the Ray cluster has at the start, or each core that this process may
    use."""
    work_unit_timeout_seconds: float = Field(default=3600.0, gt=0, le=1e9)
    """Seconds that a worker may take for a work unit (for the survey of a file: per GiB); then it is killed and
    replaced, and the work unit is done again, three times at most. One worker without Ray has no limit."""
    work_unit_bytes: Bytes | None = None
    """Bytes of uncompressed text per work unit; a work unit makes one shard. None: a 64th of the corpus, but between 2
    and 64 MiB."""
    max_sentence_tokens: Count = 64
    """Longest sentence. A longer one is split at its best inner boundary; nothing is truncated."""
    overwrite: bool = False
    """Replace shards in `output` that were made with another tokenizer, segmenter or options."""
