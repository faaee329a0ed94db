"""The inputs of shards: segmenter, tokenizer, and the files of the corpus, all checked before work starts."""

import hashlib
import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import segmenters
from pipeline.config import Config, DataConfig, TokenizerConfig
from pipeline.corpus import PYTHON_DOCS, Survey, find_sources, python_docs
from pipeline.corpus.filters import build_filters
from pipeline.corpus.work_units import choose_work_unit_bytes
from pipeline.errors import ConfigError, CorpusError
from pipeline.fetched import local_model
from pipeline.lineage import Artifact, identity_digest
from pipeline.output_files import PYTHON_DOCS_NAME, RECORD_NAME
from pipeline.redaction import redacted
from pipeline.shards.manifest import SHARD_FORMAT_VERSION, Identity, InputFile
from pipeline.shards.store import ShardStore
from pipeline.shards.surveys import survey_corpus
from pipeline.shards.workers import ShowProgress, StartWorkers
from pipeline.tokenization.tokenizer import Tokenizer
from segmenters import Segmenter


@dataclass(frozen=True)
class Materials:
    """Everything that decides the shards of a configuration."""

    segmenter: Segmenter
    surveys: list[Survey]
    """Surveys of the files of the corpus, in its order."""
    work_unit_bytes: int
    """Bytes of text per work unit."""
    tokenizer: Tokenizer | None
    """None: one is trained on the corpus."""

    def artifacts(self, config: Config) -> list[Artifact]:
        """Segmenter, tokenizer and corpus files as inputs of the job."""
        inputs = [Artifact("corpus", survey.source.path, survey.sha256) for survey in self.surveys]
        # Its weights are an input, as the text is: other weights make other shards.
        digest = self.segmenter.weights_digest or identity_digest(self.segmenter.fingerprint())
        inputs.append(Artifact("segmenter", config.segmenter.name, digest))
        if self.tokenizer is not None:
            inputs.append(Artifact("tokenizer", str(config.tokenizer.path), self.tokenizer.digest))
        return inputs

    def identity(self, config: Config, tokenizer: Tokenizer) -> Identity:
        """Identity of the shards that are made with this tokenizer."""
        inputs = tuple(
            InputFile(
                name=survey.source.name,
                path=redacted(survey.source.path),
                sha256=survey.sha256,
                num_bytes=survey.num_bytes,
                is_dev=survey.source.is_dev,
            )
            for survey in self.surveys
        )
        return Identity(
            format_version=SHARD_FORMAT_VERSION,
            inputs=inputs,
            data=reading_options(config.data),
            segmenter=self.segmenter.fingerprint(),
            tokenizer_digest=tokenizer.digest,
            max_sentence_tokens=config.prepare.max_sentence_tokens,
            work_unit_bytes=self.work_unit_bytes,
        )

    def tokenizer_identity(self, config: Config) -> str:
        """SHA-256 (hex) of everything that decides a tokenizer trained on the corpus."""
        return identity_digest(
            [
                [[survey.source.name, survey.sha256, survey.source.is_dev] for survey in self.surveys],
                reading_options(config.data),
                config.tokenizer.model_dump(exclude={"bos_token", "eos_token"}),
            ]
        )


def _silent(title: str, num_bytes: int) -> Callable[[int], object]:
    return lambda done: None


def gather(
    config: Config,
    store: ShardStore,
    start_workers: StartWorkers | None = None,
    progress: ShowProgress = _silent,
) -> Materials:
    """Load segmenter and tokenizer, and survey all files of the corpus, by workers if they can be started.

    Raises `SegmenterError`, `ConfigError` or `CorpusError` where one is missing or damaged.
    """
    build_filters(config.data.filters)  # raises for wrong ones
    segmenter = segmenters.load(config.segmenter.name, **config.segmenter.options)
    tokenizer = _given_tokenizer(config.tokenizer, config.stream.cache)
    data = config.data
    if PYTHON_DOCS in (*data.inputs, *data.dev_inputs):
        docs = _write_python_docs(store, data.max_bytes)
        named = {
            key: tuple(docs if given == PYTHON_DOCS else given for given in getattr(data, key))
            for key in ("inputs", "dev_inputs")
        }
        data = data.model_copy(update=named)
    sources = find_sources(data)
    work_unit_bytes = config.prepare.work_unit_bytes or choose_work_unit_bytes(sources)
    surveys = survey_corpus(config, data, sources, work_unit_bytes, store, start_workers, progress)
    if not any(survey.pieces and survey.source.has_rows for survey in surveys):
        raise no_document(config.data)
    return Materials(segmenter, surveys, work_unit_bytes, tokenizer)


def no_document(data: DataConfig) -> CorpusError:
    """The error for a corpus without documents."""
    return CorpusError(
        f"there is no document in {', '.join(data.inputs + data.dev_inputs)}: name files that hold some"
    )


def reading_options(data: DataConfig) -> dict[str, Any]:
    """The options that change the documents."""
    # Inputs count by name and checksum; the limit of rejections changes no shard.
    options = data.model_dump(mode="json", exclude={"inputs", "dev_inputs", "max_rejected_fraction"})
    # Newer options: where they are not set, identities and shards equal those of earlier versions.
    added = {"delimiter": None, "encoding": "utf-8", "document_bytes": None}
    return {key: value for key, value in options.items() if key not in added or value != added[key]}


def _given_tokenizer(config: TokenizerConfig, cache: str) -> Tokenizer | None:
    """The tokenizer that the configuration names, with BOS and EOS; None where one is to be trained."""
    if config.path is not None:
        try:
            return Tokenizer.load(local_model(config.path, cache)).with_bos_eos(
                config.bos_token, config.eos_token
            )
        except ConfigError as error:
            raise ConfigError(
                f"tokenizer.path={config.path}: {error}" if config.path not in str(error) else str(error)
            ) from error
    if config.bos_token is not None or config.eos_token is not None:
        raise ConfigError(
            "tokenizer.bos_token and tokenizer.eos_token name tokens of tokenizer.path, which is not given; a "
            "tokenizer that is trained has BOS and EOS of its own: leave them out"
        )
    return None


def _write_python_docs(store: ShardStore, max_bytes: int | None) -> str:
    """Write the documentation corpus into the store, so that all workers read the same text -> its path."""
    rows = (json.dumps({"id": name, "text": text}) for name, text in python_docs(max_bytes))
    content = "".join(row + "\n" for row in rows).encode()
    path = f"{store.url.rstrip('/')}/{PYTHON_DOCS_NAME}"
    there = store.sha256(PYTHON_DOCS_NAME)
    if there != hashlib.sha256(content).hexdigest():
        if there is not None and store.read(RECORD_NAME) is None:
            raise ConfigError(
                f"{path} is of other packages, or not ours: move it away, or name another output"
            )
        store.write(PYTHON_DOCS_NAME, content)
    return path
