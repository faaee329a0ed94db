"""What a worker of `sllm prepare` does, and where the workers run: here, in processes, or on Ray."""

import functools
from collections.abc import Iterable, Iterator
from typing import Any, Protocol

import segmenters
from infra.local_tasks import LocalWorkers, ProcessWorkers
from infra.ray_cluster import is_cluster_given
from infra.shard_output import FinishedWorkUnit, ShardOutput
from pipeline.config import Config
from pipeline.corpus.filters import Signatures
from pipeline.errors import ConfigError, ShardError
from pipeline.shards.manifest import Identity
from pipeline.shards.preparation import WorkUnitPreparer, WorkUnitTask
from pipeline.tokenization.tokenizer import Tokenizer
from segmenters import Segmenter


class PrepareWorker:
    """Makes the shards of one split after the other; it holds one tokenizer and one segmenter for life."""

    def __init__(
        self, config: Config, output: str, identity: Identity, segmenter: Segmenter, tokenizer: Tokenizer
    ) -> None:
        self._folder = ShardOutput(output).folder
        self._preparer = WorkUnitPreparer(config.data, identity, segmenter, tokenizer)

    @classmethod
    def load(cls, config: Config, output: str, identity: Identity) -> "PrepareWorker":
        """In a process of its own: the segmenter by its name, the tokenizer out of the output folder.

        Raises `ConfigError` or `ShardError` where either is not the one that the job began with.
        """
        segmenter = segmenters.load(config.segmenter.name, **config.segmenter.options)
        if segmenter.fingerprint() != identity.segmenter:
            raise ConfigError(
                f"segmenter {config.segmenter.name!r} is another one on this worker ({segmenter.fingerprint()}); "
                f"install the same versions on all machines"
            )
        tokenizer = ShardOutput(output).tokenizer()
        if tokenizer is None or tokenizer.digest != identity.tokenizer_digest:
            raise ShardError(f"the tokenizer in {output!r} was replaced while work went on; run again")
        return cls(config, output, identity, segmenter, tokenizer)

    def sign(self, task: WorkUnitTask) -> dict[str, Signatures]:
        """By deduplicator, the signatures of the split's documents."""
        return self._preparer.sign(task.split)

    def prepare(self, task: WorkUnitTask) -> FinishedWorkUnit:
        """Write the shards of one split."""
        prepared = self._preparer.prepare(task)
        for record, buffer in prepared.shards:
            self._folder.write(record.file, buffer)
        records = tuple(record for record, _ in prepared.shards)
        return FinishedWorkUnit(records, prepared.rejections, prepared.id_hashes)


class Workers(Protocol):
    """Carries work: `LocalWorkers`, `ProcessWorkers` or `RayWorkers`."""

    def map(self, method: str, items: Iterable[Any], *shared: Any) -> Iterator[tuple[Any, Any]]:
        """Results as they come: (item, result)."""

    def close(self) -> None:
        """Let go of what was started."""


def start_workers(
    config: Config, output: str, identity: Identity, segmenter: Segmenter, tokenizer: Tokenizer
) -> Workers:
    """`prepare.num_workers` workers, where `launcher` says; `auto` is Ray only where a cluster is given."""
    make_worker = functools.partial(PrepareWorker.load, config, output, identity)
    if config.launcher == "ray" or (config.launcher == "auto" and is_cluster_given(config.ray)):
        from infra.ray_cluster import connect
        from infra.ray_tasks import RayWorkers

        connect(config.ray)
        return RayWorkers(make_worker, config.prepare.num_workers)
    if config.prepare.num_workers == 1:
        return LocalWorkers(lambda: PrepareWorker(config, output, identity, segmenter, tokenizer))
    return ProcessWorkers(make_worker, config.prepare.num_workers, imports=[__name__])
