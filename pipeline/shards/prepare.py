"""From a corpus to sentence shards, for any kind of workers and any store.

The shards are a pure function of corpus and configuration: the bytes do not depend on the number of workers, the order
of their results, or interruptions.
"""

from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import replace
from functools import partial
from typing import TypeVar

from pipeline.config import Config
from pipeline.corpus import Document, WorkUnit, WorkUnitReader, plan_work_units
from pipeline.corpus.documents import is_dev_document
from pipeline.corpus.filters import build_filters
from pipeline.shards.duplicates import deduplicators, find_duplicates, repeated_id_hashes
from pipeline.shards.manifest import Manifest
from pipeline.shards.materials import Materials, no_document
from pipeline.shards.output import FinishedWorkUnits, ShardOutput
from pipeline.shards.rejections import check_rejected
from pipeline.shards.store import ShardStore, store_tokenizer, stored_tokenizer
from pipeline.shards.worker import Worker, WorkUnitTask
from pipeline.shards.workers import ShowProgress, StartWorkers, Workers
from pipeline.tokenization.tokenizer import Tokenizer

R = TypeVar("R")


def prepare(
    config: Config,
    materials: Materials,
    store: ShardStore,
    start_workers: StartWorkers,
    progress: ShowProgress,
) -> Manifest:
    """Make, or finish, the shards of this configuration in the store -> their manifest.

    Raises `CorpusError` for input that is damaged or mostly rejected, `ShardError` where the store holds shards of
    something else and `prepare.overwrite` is not set.
    """
    output = ShardOutput(store)
    work_units = plan_work_units(materials.surveys, config.data, materials.work_unit_bytes)
    tokenizer, trained_on = materials.tokenizer, None
    if tokenizer is None:
        trained_on = materials.tokenizer_identity(config)
        tokenizer = stored_tokenizer(store, trained_on) or _train_tokenizer(config, work_units, progress)
    identity = materials.identity(config, tokenizer)
    finished = output.open(identity, len(work_units), config.prepare.overwrite)
    if (manifest := output.manifest()) is not None:
        stored = stored_tokenizer(store)
        if stored is None or stored.digest != tokenizer.digest:
            store_tokenizer(store, tokenizer, trained_on)  # it is damaged
        return manifest
    output.begin(identity, tokenizer, trained_on)

    worker = Worker(config.data, store, identity, materials.segmenter, tokenizer)
    with closing(start_workers(worker, partial(Worker.load, config, store, identity))) as workers:
        tasks = [WorkUnitTask(work_unit) for work_unit in work_units]

        if steps := deduplicators(build_filters(config.data.filters)):
            # Duplicates depend on the documents of finished work units too.
            signed = dict(_results(workers, Worker.sign, tasks, progress, "look for duplicates"))
            duplicates = find_duplicates(steps, signed)
            tasks = [replace(task, duplicates=duplicates[task.work_unit.index]) for task in tasks]

        missing = [task for task in tasks if task.work_unit.index not in finished]
        for index, result in _results(workers, Worker.prepare, missing, progress, "prepare"):
            output.write_work_unit(index, result)
            finished[index] = result

        repeated = repeated_id_hashes([output.id_hashes(finished[task.work_unit.index]) for task in tasks])
        again = [replace(tasks[index], repeated_ids=hashes) for index, hashes in repeated.items()]
        for index, result in _results(workers, Worker.prepare, again, progress, "without repeated ids"):
            output.write_work_unit(index, result, replaced=finished[index])
            finished[index] = result

    output.write_rejections(finished)
    _check(config, output, finished)
    return output.finish(identity, finished, tokenizer)


def _results(
    workers: Workers[Worker],
    work: Callable[[Worker, WorkUnitTask], R],
    tasks: list[WorkUnitTask],
    progress: ShowProgress,
    title: str,
) -> Iterator[tuple[int, R]]:
    """Index of the work unit and result of each task, in any order; progress counts a result after its use."""
    if not tasks:
        return
    advance = progress(title, sum(task.work_unit.num_bytes for task in tasks))
    for task, result in workers.map(work, tasks):
        yield task.work_unit.index, result
        advance(task.work_unit.num_bytes)


def _train_tokenizer(config: Config, work_units: list[WorkUnit], progress: ShowProgress) -> Tokenizer:
    """A tokenizer trained on the first `tokenizer.train_bytes` of the train documents."""
    corpus_bytes = sum(work_unit.num_bytes for work_unit in work_units)
    most = min(corpus_bytes, config.tokenizer.train_bytes)
    advance = progress("train the tokenizer", most)
    left = config.tokenizer.train_bytes

    def texts() -> Iterator[str]:
        nonlocal left
        reader = WorkUnitReader(config.data)
        for work_unit in work_units:
            for document in reader.read(work_unit):
                if not isinstance(document, Document) or document.is_dev:
                    continue
                if is_dev_document(document.hashed, config.data.dev_fraction):
                    continue
                yield document.text
                advance(document.num_bytes)
                left -= document.num_bytes
                if left <= 0:
                    return

    tokenizer = Tokenizer.train(texts(), config.tokenizer.vocab_size)
    advance(most - (config.tokenizer.train_bytes - left))  # dev documents and markup are not read for it
    return tokenizer


def _check(config: Config, output: ShardOutput, finished: FinishedWorkUnits) -> None:
    """Raise `CorpusError` where too many documents were rejected, or none is left."""
    documents = sum(record.documents for work_unit in finished.values() for record in work_unit.shards)
    rejections = (
        rejection for _, work_unit in sorted(finished.items()) for rejection in work_unit.rejections
    )
    check_rejected(rejections, documents, config.data.max_rejected_fraction, output.store)
    if documents == 0:
        raise no_document(config.data)
