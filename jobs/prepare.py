"""`sllm prepare`: from a corpus to sentence shards, on Ray or on the cores of this machine."""

import time
from functools import partial

from infra.registry.models import with_model_folders
from infra.storage import Folder
from infra.tracking.corpus_files import FILE_LIST, files_of, list_of, split_tags
from infra.tracking.run import ActiveRun
from infra.tracking.store import check_server
from infra.workers import start_workers
from jobs.reports import corpus_summary
from jobs.runner.console import say
from jobs.runner.output.folder import check_new
from jobs.runner.progress import WorkProgress
from pipeline.config import Config
from pipeline.config.paths import fixed_part, is_url
from pipeline.corpus import PYTHON_DOCS
from pipeline.errors import ConfigError, ShardError
from pipeline.lineage import MANIFEST_NAME, JobRecord
from pipeline.output_files import RECORD_NAME
from pipeline.shards.manifest import Manifest
from pipeline.shards.materials import Materials, gather, reading_options
from pipeline.shards.prepare import prepare as prepare_shards
from pipeline.shards.store import check_bos_eos, stored_tokenizer
from pipeline.shards.verification import damaged_shards
from pipeline.shards.workers import ShowProgress


def run(config: Config, force: bool = False) -> JobRecord:
    """Make the shards of `config` in `config.output`, as one MLflow run; finished work units are reused.

    Prints a summary, with rejected and filtered documents (`jobs.reports.corpus_summary`). Raises `ConfigError`
    where no output is named.
    """
    from jobs.runner.execution import run_job

    if config.output is None:
        raise ConfigError("prepare needs output=FOLDER, where the shards go")
    output = config.output
    config = with_model_folders(config)
    if force:
        config = config.model_copy(update={"prepare": config.prepare.model_copy(update={"overwrite": True})})
    store = Folder(output)
    _check_output(config, store, output)
    check_server(config.tracking)
    with WorkProgress("prepare", "bytes") as progress:
        materials = gather(config, store, partial(start_workers, config), progress.begin)
    if materials.tokenizer is not None and not config.prepare.overwrite:
        check_bos_eos(store, materials.tokenizer)

    def body(run: ActiveRun) -> dict[str, float]:
        start = time.monotonic()
        manifest = prepare(config, output, materials)
        files = files_of(manifest)
        run.log_tags(split_tags(files))
        run.log_text(FILE_LIST, list_of(files))
        return {"seconds": time.monotonic() - start, **corpus_summary.metrics(manifest)}

    def is_intact(earlier: JobRecord) -> bool:
        with WorkProgress("prepare", "bytes") as progress:
            return _is_intact(store, earlier, progress.begin)

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
        is_intact=is_intact,
        beside=["data", "prepare", "launcher", "ray"],
        force=config.prepare.overwrite,
    )
    corpus_summary.show(output)
    return record


def _is_intact(store: Folder, earlier: JobRecord, progress: ShowProgress) -> bool:
    """Whether finished shards in a local folder are as they were written: the checksums of all of them are compared.

    Those at a URL are compared when they are read. Raises `ShardError` for a damaged manifest.
    """
    if is_url(store.url):
        return True
    if store.sha256(MANIFEST_NAME) != earlier.output.digest:
        raise ShardError(
            f"{store.url}/{MANIFEST_NAME} is damaged or changed: its checksum is not that of {RECORD_NAME}; put back "
            f"the earlier one, or make all shards anew with --force"
        )
    manifest = Manifest.parse(store.read(MANIFEST_NAME) or b"", f"{store.url}/{MANIFEST_NAME}")
    advance = progress("verify", sum(record.file_bytes for record in manifest.shards))
    damaged = damaged_shards(manifest.shards, store.sha256, lambda record: advance(record.file_bytes))
    if damaged:
        say(f"{', '.join(record.file for record in damaged)} in {store.url}: damaged, and made anew")
    tokenizer = stored_tokenizer(store)
    return not damaged and tokenizer is not None and tokenizer.digest == manifest.tokenizer_digest


def _check_output(config: Config, store: Folder, output: str) -> None:
    """Check, before the survey of the corpus, whether shards may be written to `output`."""
    store.check_bucket()
    read = [path for path in (*config.data.inputs, *config.data.dev_inputs, config.tokenizer.path) if path]
    read += [value for value in config.segmenter.options.values() if isinstance(value, str)]
    inputs = [fixed_part(path) for path in read if path != PYTHON_DOCS]
    check_new(output, "shards", inputs, config.prepare.overwrite)


def prepare(config: Config, output: str, materials: Materials | None = None) -> Manifest:
    """Make, or finish, the shards of `config` in the folder or URL `output`, without MLflow -> their manifest.

    The errors are those of `pipeline.shards.prepare.prepare` and, without `materials`, of
    `pipeline.shards.materials.gather`.
    """
    store, start = Folder(output), partial(start_workers, config)
    with WorkProgress("prepare", "bytes") as progress:
        materials = materials or gather(config, store, start, progress.begin)
        return prepare_shards(config, materials, store, start, progress.begin)
