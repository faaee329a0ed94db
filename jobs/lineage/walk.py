"""Walks from artifact to artifact: back by the records of jobs, forward by the MLflow store."""

import dataclasses
import json
import shlex
from collections.abc import Iterable, Sequence

from infra.tracking.corpus_files import DEV_FILES, FILES, UNUSED_FILES, CorpusFile, is_in
from infra.tracking.search import RunSearch, StoredJob
from jobs.lineage.node import LineageNode
from jobs.lineage.records import Records, beside, section
from jobs.runner.output.folder import absolute
from pipeline.config.paths import is_url
from pipeline.lineage import Artifact, JobRecord
from pipeline.output_files import RECORD_NAME
from pipeline.redaction import redacted

DAMAGED = "its record is damaged: it is named among its own inputs"


def walk_back(
    artifact: Artifact,
    tracking: str | None = None,
    record: JobRecord | None = None,
    records: Records | None = None,
) -> LineageNode:
    """The tree of inputs of this artifact, back to artifacts that no job made.

    It uses the records beside the artifacts (`record` for the first, if given); the MLflow store is asked only for
    artifacts that are missing or replaced.
    """
    records = records or Records(tracking)
    records.load(artifact, record)
    return _back(artifact, records, {}, frozenset())


def _back(
    artifact: Artifact, records: Records, known: dict[Artifact, LineageNode], above: frozenset[Artifact]
) -> LineageNode:
    """`above`: artifacts made from this one, to detect cycles in damaged records."""
    if artifact in above:
        return LineageNode(artifact, note=DAMAGED)
    if artifact in known:
        return known[artifact]
    record, note = records.of(artifact)
    if record is None:
        node = LineageNode(artifact, note=note)
    else:
        inputs = tuple(
            dataclasses.replace(
                _back(given, records, known, above | {artifact}), documents=records.documents(record, given)
            )
            for given in records.inputs(record)
        )
        node = dataclasses.replace(node_of(record, artifact), note=note, made_from=inputs)
    known[artifact] = node
    return node


def walk_forward(artifact: Artifact, search: RunSearch, files: Sequence[Artifact] = ()) -> LineageNode:
    """The tree of artifacts made from this content; in `stale`, what was made from other content at its path.

    `files` are those of a folder of corpus files: only jobs that read all of them count. The store is searched once for
    each level. A file only in dev trained no model; a file in neither split was not used.
    """
    return _Forward(search).node(artifact, files)


class _Forward:
    def __init__(self, search: RunSearch) -> None:
        self._search = search
        self._records = Records()
        self._readers: dict[str, list[StoredJob]] = {}
        """Jobs by the digest of an artifact that they read."""

    def node(self, artifact: Artifact, files: Sequence[Artifact]) -> LineageNode:
        search, found = self._search, list[StoredJob]()
        digests = [file.digest for file in files] or [artifact.digest]
        if artifact.kind == "corpus" and digests[0]:
            found = search.readers_of_file(digests[0])
            found = [job for job in found if all(self._has_file(job, digest) for digest in digests)]
        elif artifact.digest:
            found = search.readers_of([artifact.digest])
        at_path = [] if files else search.readers_of_path(redacted(absolute(artifact.path)))
        earlier = [job for job in at_path if self._is_stale(job, artifact)]
        self._load([*found, *earlier])
        return LineageNode(
            artifact,
            went_into=self._nodes(found, artifact, frozenset({artifact.digest}), None),
            stale=self._nodes(earlier, artifact, frozenset({artifact.digest}), None),
        )

    def _load(self, level: Iterable[StoredJob]) -> None:
        """Search for all that was made from the outputs of these jobs."""
        outputs = {job.record.output.digest for job in level}
        while outputs := outputs - self._readers.keys() - {""}:
            found = self._search.readers_of(outputs)
            for digest in outputs:
                self._readers[digest] = []
            for job in found:
                for digest in {given.digest for given in job.record.inputs} & outputs:
                    self._readers[digest].append(job)
            outputs = {job.record.output.digest for job in found}

    def _nodes(
        self, jobs: Iterable[StoredJob], given: Artifact, seen: frozenset[str], split: str | None
    ) -> tuple[LineageNode, ...]:
        """Nodes of the outputs of jobs that read `given`; `split`: where the asked file's documents are in it."""
        nodes = []
        for job in jobs:
            made = job.record.output
            if (
                made.digest in seen
                or split == "none"
                or (split == "dev" and job.record.job.startswith("train-"))
            ):
                continue
            documents, in_split = self._use(job, given)
            onward = self._nodes(self._readers.get(made.digest, ()), made, seen | {made.digest}, in_split)
            _, note = beside(made) if not is_url(made.path) else (None, None)
            nodes.append(
                dataclasses.replace(
                    node_of(job.record, made), went_into=onward, documents=documents, note=note
                )
            )
        return tuple(nodes)

    def _use(self, job: StoredJob, given: Artifact) -> tuple[dict[str, int] | None, str | None]:
        """Documents of a corpus file in the splits of shards, and `train`, `dev` or `none`; None if not known."""
        if given.kind != "corpus" or not given.digest:
            return None, None
        if is_in(job.tags, UNUSED_FILES, given.digest):
            return {"train": 0, "dev": 0}, "none"
        in_dev_alone = is_in(job.tags, DEV_FILES, given.digest)
        if (
            is_url(job.record.output.path)
            and is_in(job.tags, FILES, given.digest)
            and in_dev_alone is not None
        ):
            return (
                None,
                "dev" if in_dev_alone else None,
            )  # the tags say enough, and reading the manifest takes long
        documents = self._records.documents(job.record, given)
        if documents is None:
            return None, "dev" if in_dev_alone else None
        return documents, "train" if documents["train"] else "dev" if documents["dev"] else "none"

    def _has_file(self, job: StoredJob, sha256: str) -> bool:
        if (known := job.has_file(sha256)) is not None:
            return known
        files = self._files(job)
        return files is None or sha256 in {file.sha256 for file in files}

    def _files(self, job: StoredJob) -> list[CorpusFile] | None:
        self._records.add_stored(job, self._search)
        return self._records.files(job.record)

    def _is_stale(self, job: StoredJob, artifact: Artifact) -> bool:
        """Whether a job with an input at this path read other content there."""
        path = redacted(absolute(artifact.path))
        if not artifact.digest:
            return True
        if artifact.kind != "corpus":
            digests = {given.digest for given in job.record.inputs}
            return artifact.digest not in digests and job.has_path(path) is True
        if job.has_path(path) is None or job.has_file(artifact.digest) is None:
            files = self._files(job) or []
            return any(file.path == path and file.sha256 != artifact.digest for file in files)
        return not job.has_file(artifact.digest)


def node_of(record: JobRecord, artifact: Artifact) -> LineageNode:
    """The node of an artifact that a job made, without its neighbours."""
    segmenter = tokenizer = None
    if record.output.kind == "shards":
        cut_by, chosen = (section(record.config, name) for name in ("segmenter", "tokenizer"))
        options = cut_by.get("options")
        segmenter = f"{cut_by.get('name')}" + (f" {json.dumps(options)}" if options else "")
        if chosen:
            trained = f"byte-level BPE of {chosen.get('vocab_size')}, trained on the corpus"
            tokenizer = str(chosen.get("path") or trained)
    return LineageNode(
        artifact,
        job=record.job,
        started=record.started,
        finished=record.finished,
        user=record.user or None,
        host=record.host or None,
        ray_job=record.ray_job or None,
        command=record.command or None,
        again=again(record),
        segmenter=segmenter,
        segmenter_digest=next((given.digest for given in record.inputs if given.kind == "segmenter"), None),
        tokenizer=tokenizer,
        code=record.versions.get("git") or record.versions.get("sllm"),
        versions=record.versions,
        config=record.config,
        metrics=record.metrics,
    )


def again(record: JobRecord) -> str | None:
    """The command that makes a job's output again, beside it; None for a verb without a configuration."""
    if record.job == "export":
        return None
    output = record.config.get("output")
    if not isinstance(output, str):
        output = record.output.path
    file = f"{record.output.path.rstrip('/')}/{RECORD_NAME}"
    return " ".join(
        shlex.quote(word) for word in ("sllm", record.job, file, f"output={output.rstrip('/')}-again")
    )
