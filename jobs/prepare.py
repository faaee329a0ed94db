"""`sllm prepare`: a corpus becomes sentence shards, on Ray or on this machine's cores."""

import hashlib
import json
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

from rich.console import Console
from rich.progress import (
    BarColumn,
    DownloadColumn,
    Progress,
    TextColumn,
    TimeRemainingColumn,
    TransferSpeedColumn,
)

import segmenters
from infra.mlflow_store import check_server
from infra.prepare_worker import Workers, start_workers
from infra.shard_output import REJECTED, FinishedWorkUnit, ShardOutput
from jobs.reports import corpus_summary
from jobs.runner.output_folder import check_new
from pipeline.config import Config, TokenizerConfig
from pipeline.config.paths import fixed_part
from pipeline.corpus import (
    PYTHON_DOCS,
    Document,
    Survey,
    WorkUnit,
    WorkUnitReader,
    find_sources,
    plan_work_units,
    python_docs,
    survey_all,
)
from pipeline.corpus.filters import Deduplicator, Filter, build_filters
from pipeline.corpus.work_units import choose_work_unit_bytes, identity_digest, is_dev_document
from pipeline.errors import ConfigError, CorpusError
from pipeline.lineage import RECORD_NAME, Artifact, JobRecord
from pipeline.redaction import redacted
from pipeline.shards.manifest import Manifest
from pipeline.shards.preparation import (
    WorkUnitTask,
    duplicated_hashes,
    find_duplicates,
    make_identity,
    reading_options,
)
from pipeline.tokenization.tokenizer import Tokenizer
from segmenters import Segmenter

PYTHON_DOCS_FILE = "corpus/python-docs.jsonl"


@dataclass(frozen=True)
class Materials:
    """What shards are made of and with, all looked at before work starts."""

    segmenter: Segmenter
    surveys: list[Survey]
    """Of the files of the corpus, in its order."""
    work_unit_bytes: int
    """Bytes of text in a split."""
    tokenizer: Tokenizer | None
    """None: one is trained on the corpus."""

    def artifacts(self, config: Config) -> list[Artifact]:
        """As inputs of the job."""
        inputs = [Artifact("corpus", survey.source.path, survey.sha256) for survey in self.surveys]
        # Its weights are an input as much as the text: others, and the shards are others.
        digest = self.segmenter.weights_digest or identity_digest(self.segmenter.fingerprint())
        inputs.append(Artifact("segmenter", config.segmenter.name, digest))
        if self.tokenizer is not None:
            inputs.append(Artifact("tokenizer", str(config.tokenizer.path), self.tokenizer.digest))
        return inputs


def run(config: Config, force: bool = False) -> JobRecord:
    """Make the shards of `config` in `config.output`, as one MLflow run; what is finished is reused.

    Prints what is in them, and what is in none of them (`jobs.reports.corpus_summary`).
    """
    from jobs.runner.execution import run_job

    if config.output is None:
        raise ConfigError("prepare needs output=FOLDER, where the shards go")
    output = config.output
    if force:
        config = config.model_copy(update={"prepare": config.prepare.model_copy(update={"overwrite": True})})
    _check_place(config, output)
    check_server(config.tracking)
    materials = gather(config, output)
    if materials.tokenizer is not None and not config.prepare.overwrite:
        ShardOutput(output).check_bos_eos(materials.tokenizer)

    def body(_run: object) -> dict[str, float]:
        start = time.monotonic()
        manifest = prepare(config, output, materials)
        return {"seconds": time.monotonic() - start, **corpus_summary.metrics(manifest)}

    record = run_job(
        "prepare",
        config,
        sections=[
            *(f"data.{key}" for key in reading_options(config.data)),
            "segmenter",
            "tokenizer",
            "prepare.work_unit_bytes",
            "prepare.max_sentence_tokens",
        ],
        inputs=materials.artifacts(config),
        output=output,
        output_kind="shards",
        body=body,
        beside=["data", "prepare", "launcher", "ray"],
        force=config.prepare.overwrite,
    )
    corpus_summary.show(output)
    return record


def _check_place(config: Config, output: str) -> None:
    """Before the corpus is looked through: whether shards may be written to `output`."""
    ShardOutput(output).folder.check_bucket()
    read = [path for path in (*config.data.inputs, *config.data.dev_inputs, config.tokenizer.path) if path]
    read += [value for value in config.segmenter.options.values() if isinstance(value, str)]
    inputs = [fixed_part(path) for path in read if path != PYTHON_DOCS]
    check_new(output, "shards", inputs, config.prepare.overwrite)


def gather(config: Config, output: str) -> Materials:
    """Load segmenter and tokenizer, and look through all files of the corpus.

    Raises `SegmenterError`, `ConfigError` or `CorpusError` for what is missing or damaged, before any other work.
    """
    build_filters(config.data.filters)
    segmenter = segmenters.load(config.segmenter.name, **config.segmenter.options)
    tokenizer = _given_tokenizer(config.tokenizer)
    data = config.data
    if PYTHON_DOCS in (*data.inputs, *data.dev_inputs):
        docs = _write_python_docs(output, data.max_bytes)
        named = {
            key: tuple(docs if given == PYTHON_DOCS else given for given in getattr(data, key))
            for key in ("inputs", "dev_inputs")
        }
        data = data.model_copy(update=named)
    sources = find_sources(data)
    work_unit_bytes = config.prepare.work_unit_bytes or choose_work_unit_bytes(sources)
    surveys = survey_all(sources, data, work_unit_bytes)
    if not any(survey.pieces and survey.source.has_rows for survey in surveys):
        raise _no_document(config)
    return Materials(segmenter, surveys, work_unit_bytes, tokenizer)


def _no_document(config: Config) -> CorpusError:
    return CorpusError(
        f"there is no document in {', '.join(config.data.inputs + config.data.dev_inputs)}: name files that hold some"
    )


def _given_tokenizer(config: TokenizerConfig) -> Tokenizer | None:
    """The tokenizer that the configuration names, with BOS and EOS; none where one is to be trained."""
    if config.path is not None:
        try:
            return Tokenizer.load(config.path).with_bos_eos(config.bos_token, config.eos_token)
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


def _write_python_docs(output: str, max_bytes: int | None) -> str:
    """Write the documentation corpus into the output, so that every worker reads the same -> its path."""
    folder = ShardOutput(output).folder
    rows = (json.dumps({"id": name, "text": text}) for name, text in python_docs(max_bytes))
    content = "".join(row + "\n" for row in rows).encode()
    there = folder.sha256(PYTHON_DOCS_FILE)
    if there != hashlib.sha256(content).hexdigest():
        if there is not None and folder.read(RECORD_NAME) is None:
            raise ConfigError(
                f"{output.rstrip('/')}/{PYTHON_DOCS_FILE} is of other packages, or not ours: move it away, or name "
                "another output"
            )
        folder.write(PYTHON_DOCS_FILE, content)
    return f"{output.rstrip('/')}/{PYTHON_DOCS_FILE}"


def prepare(config: Config, output: str, materials: Materials | None = None) -> Manifest:
    """Make, or finish, the shards of this configuration in the folder or URL `output` -> their manifest.

    Raises `CorpusError` for input that is missing, damaged or mostly rejected, `ShardError` where `output`
    holds shards of something else and `prepare.overwrite` is not set.
    """
    materials = materials or gather(config, output)
    shard_output = ShardOutput(output)
    splits = plan_work_units(materials.surveys, config.data, materials.work_unit_bytes)
    tokenizer, trained_on = materials.tokenizer, None
    if tokenizer is None:
        tokenizer, trained_on = _trained_tokenizer(config, shard_output, materials.surveys, splits)
    segmenter = materials.segmenter
    identity = make_identity(
        config, materials.surveys, materials.work_unit_bytes, segmenter, tokenizer.digest
    )
    finished = shard_output.open(identity, len(splits), config.prepare.overwrite)
    manifest = shard_output.manifest()
    if manifest is not None:
        return manifest
    shard_output.begin(identity, tokenizer, trained_on)
    workers = start_workers(config, shard_output.folder.url, identity, segmenter, tokenizer)
    try:
        _prepare_work_units(workers, shard_output, splits, finished, build_filters(config.data.filters))
    finally:
        workers.close()
    shard_output.write_rejected(sorted(finished.items()))
    _check_rejected(config, output, finished)
    return shard_output.finish(identity, finished, tokenizer)


def _trained_tokenizer(
    config: Config, output: ShardOutput, surveys: list[Survey], splits: list[WorkUnit]
) -> tuple[Tokenizer, str]:
    """One trained on the train documents, or that of an earlier run; with the digest of what it was trained on."""
    trained_on = identity_digest(
        [
            [[survey.source.name, survey.sha256, survey.source.is_dev] for survey in surveys],
            reading_options(config.data),
            config.tokenizer.model_dump(exclude={"bos_token", "eos_token"}),
        ]
    )
    stored = output.tokenizer(trained_on)
    return stored or Tokenizer.train(_training_texts(config, splits), config.tokenizer.vocab_size), trained_on


def _training_texts(config: Config, splits: list[WorkUnit]) -> Iterator[str]:
    reader = WorkUnitReader(config.data)
    left = config.tokenizer.train_bytes
    for split in splits:
        for document in reader.read(split):
            if not isinstance(document, Document) or document.is_dev:
                continue
            if is_dev_document(document.hashed, config.data.dev_fraction):
                continue
            yield document.text
            left -= document.num_bytes
            if left <= 0:
                return


def _prepare_work_units(
    workers: Workers,
    output: ShardOutput,
    splits: list[WorkUnit],
    finished: dict[int, FinishedWorkUnit],
    filters: Mapping[str, Filter | Deduplicator],
) -> None:
    """Do what is missing in `finished`, then again, without these, the splits with ids of earlier ones."""
    columns = (BarColumn(), DownloadColumn(), TransferSpeedColumn(), TimeRemainingColumn())
    with Progress(TextColumn("{task.description}"), *columns, console=Console(stderr=True)) as progress:

        def work(title: str, method: str, todo: list[WorkUnitTask]) -> Iterator[tuple[int, Any]]:
            task = progress.add_task(title, total=sum(one.split.num_bytes for one in todo))
            for done, result in workers.map(method, todo):
                yield done.split.index, result
                progress.advance(task, done.split.num_bytes)

        def prepare_all(title: str, todo: list[WorkUnitTask]) -> None:
            for index, result in work(title, "prepare", todo):
                output.write_work_unit(index, result)
                finished[index] = result

        duplicates: dict[int, dict[str, frozenset[int]]] = {}
        missing = [split for split in splits if split.index not in finished]
        if missing and any(isinstance(step, Deduplicator) for step in filters.values()):
            signed = dict(work("look for duplicates", "sign", [WorkUnitTask(split) for split in splits]))
            duplicates = find_duplicates(filters, signed)
        tasks = [WorkUnitTask(split, duplicates=duplicates.get(split.index, {})) for split in splits]
        prepare_all("prepare", [task for task in tasks if task.split.index not in finished])
        dropped = duplicated_hashes([output.id_hashes(finished[split.index]) for split in splits])
        if dropped:
            again = [replace(tasks[index], repeated_ids=hashes) for index, hashes in dropped.items()]
            prepare_all("without repeated ids", again)


def _check_rejected(config: Config, output: str, finished: dict[int, FinishedWorkUnit]) -> None:
    documents = sum(record.documents for split in finished.values() for record in split.shards)
    rejections = [
        rejection
        for _, split in sorted(finished.items())
        for rejection in split.rejections
        if not rejection.is_filtered
    ]
    rejected = sum(rejection.num_lines for rejection in rejections)
    total = documents + rejected
    allowed = config.data.max_rejected_fraction
    if rejected > allowed * total:
        first = "; ".join(
            f"{rejection.file}, {rejection.position}: {rejection.reason}"
            + (f" ({rejection.detail})" if rejection.detail else "")
            for rejection in rejections[:3]
        )
        raise CorpusError(
            f"{rejected} of {total} documents (lines, of what is broken) were rejected, more than "
            f"data.max_rejected_fraction={allowed} allows: {redacted(first)}; all of them are listed in "
            f"{redacted(output.rstrip('/'))}/{REJECTED}"
        )
    if documents == 0:
        raise _no_document(config)
