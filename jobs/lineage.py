"""`sllm lineage`: from a result back to the corpus files, and from a file forward to its results."""

import dataclasses
import hashlib
import json
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.markup import escape
from rich.tree import Tree

from infra.storage import Folder, StorageError
from infra.tracking.search import RunSearch
from infra.tracking.store import resolve_uri
from jobs.runner.output_folder import artifact_at, record_at
from jobs.runner.printable_console import PrintableConsole
from pipeline.config.paths import PATH, is_url, resolved_tracking_uri
from pipeline.errors import ConfigError, ShardError
from pipeline.lineage import MANIFEST_NAME, Artifact, JobRecord
from pipeline.printable import printable
from pipeline.redaction import MASK
from pipeline.shards.manifest import Manifest

FILES_SHOWN = 12
UNWRAPPED = 1000
"""Width in characters if the output is not a terminal."""
METRICS_SHOWN = 6
_METRICS = (
    *("bits_per_byte", "nll_per_token", "token_accuracy", "exact_sentences"),
    *("documents", "sentences", "tokens"),
)
"""Metrics that are shown, by the last part of their names, in this order."""


@dataclasses.dataclass(frozen=True)
class LineageNode:
    """A node of the lineage tree: an artifact, the job that made it, and the adjacent artifacts."""

    artifact: Artifact
    job: str | None = None
    """Verb of the job that made it; None for an artifact that no job made."""
    finished: str | None = None
    segmenter: str | None = None
    tokenizer: str | None = None
    code: str | None = None
    """Git commit or version of sllm."""
    metrics: dict[str, float] = dataclasses.field(default_factory=dict)
    note: str | None = None
    """How the artifact differs from the recorded one."""
    documents: dict[str, int] | None = None
    """For a corpus file and shards: documents of the file in their train and dev splits; None if not known."""
    made_from: tuple["LineageNode", ...] = ()
    went_into: tuple["LineageNode", ...] = ()


def command(
    path: Annotated[str, typer.Argument(help="A model, shards, a report, or a corpus file."), PATH],
    tracking: Annotated[
        str | None, typer.Option("--tracking", metavar="URI", help="MLflow store, where job.json names none.")
    ] = None,
    forward: Annotated[
        bool, typer.Option("--forward", help="Show what was made from it, also where a job made it.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print the tree as JSON.")] = False,
) -> None:
    """Arguments of `sllm lineage`."""
    show(path, None if tracking is None else resolved_tracking_uri(tracking), as_json, forward)


def show(path: str, tracking: str | None, as_json: bool = False, forward: bool = False) -> None:
    """Print the lineage of the artifact at `path`: backwards if a job made it; otherwise, or with `forward`, forwards.

    Raises `ConfigError` where there is nothing at `path`, or a needed store is missing.
    """
    record = record_at(path) if is_url(path) or Path(path).is_dir() else None
    artifact = artifact_at(path)
    if record is None or forward:
        step = walk_forward(artifact, RunSearch(tracking or _uri_of(record)))
    else:
        step = walk_back(artifact, tracking)
    if as_json:
        print(printable(json.dumps(dataclasses.asdict(step), indent=2, ensure_ascii=False)))
    else:
        console = PrintableConsole()
        if not console.is_terminal:
            console.width = UNWRAPPED
        console.print(_tree(step))


def walk_back(
    artifact: Artifact,
    tracking: str | None = None,
    asked_by: JobRecord | None = None,
    above: frozenset[str] = frozenset(),
) -> LineageNode:
    """The tree of inputs of this artifact, back to artifacts that no job made.

    It uses the records beside the artifacts; MLflow is queried only for artifacts that are missing or replaced.
    `above`: artifacts made from this one, to detect cycles in damaged records.
    """
    this = f"{artifact.kind} {artifact.path} {artifact.digest}"
    if this in above:
        return LineageNode(artifact, note="its record is damaged: it is named among its own inputs")
    record, note = _record_of(artifact, tracking, asked_by)
    if record is None:
        return LineageNode(artifact, note=note)
    manifest = _manifest(record)
    inputs = tuple(
        dataclasses.replace(
            walk_back(given, tracking, record, above | {this}), documents=_documents(manifest, given)
        )
        for given in record.inputs
    )
    return dataclasses.replace(_step(record, artifact), note=note, made_from=inputs)


def walk_forward(
    artifact: Artifact,
    search: RunSearch,
    seen: frozenset[str] = frozenset(),
    documents: dict[str, int] | None = None,
) -> LineageNode:
    """The tree of artifacts made from this content.

    `documents`, of shards: documents of the queried file in their splits. A file only in dev trained no model; a file
    in neither split was not used.
    """
    seen |= {artifact.digest}
    nexts = []
    for record in search.jobs_with_input(artifact):
        if record.output.digest in seen or not _went_into(record, documents):
            continue
        here = _documents(_manifest(record), artifact)
        onward = walk_forward(record.output, search, seen, here)
        nexts.append(
            dataclasses.replace(_step(record, record.output), went_into=onward.went_into, documents=here)
        )
    return LineageNode(artifact, went_into=tuple(nexts))


def _went_into(record: JobRecord, documents: dict[str, int] | None) -> bool:
    if documents is None:
        return True
    return documents["train"] > 0 or (documents["dev"] > 0 and not record.job.startswith("train-"))


def _manifest(record: JobRecord) -> Manifest | None:
    """Manifest of the shards that a job wrote, if they are unchanged."""
    if record.output.kind != "shards":
        return None
    try:
        content = Folder(record.output.path).read(MANIFEST_NAME)
        if content is None or hashlib.sha256(content).hexdigest() != record.output.digest:
            return None
        return Manifest.parse(content, record.output.path)
    except (StorageError, ShardError, ConfigError, OSError):
        return None


def _documents(manifest: Manifest | None, given: Artifact) -> dict[str, int] | None:
    return None if manifest is None or given.kind != "corpus" else manifest.documents_of(given.digest)


def _record_of(
    artifact: Artifact, tracking: str | None, asked_by: JobRecord | None
) -> tuple[JobRecord | None, str | None]:
    path = Path(artifact.path)
    # No job wrote these, and asking for the record of each file of a corpus at a URL takes long.
    asked = not is_url(artifact.path) or artifact.kind not in ("corpus", "segmenter", "tokenizer")
    try:
        record = record_at(artifact.path) if asked else None
    except StorageError:
        return None, "cannot be reached"
    if record is not None and record.output.digest == artifact.digest:
        return record, None
    if not artifact.run_id:
        note = (
            None if path.exists() or "://" in artifact.path or artifact.path[:1] != "/" else "no longer there"
        )
        return None, note
    note = "no longer there" if record is None else f"replaced since, by run {record.run_id}"
    try:
        return RunSearch(tracking or _uri_of(asked_by)).run(artifact.run_id), note
    except ConfigError:
        return None, f"{note}, and no MLflow store has its run"


def _uri_of(record: JobRecord | None) -> str:
    """The store that a record names; that of the environment if it names none, or its password was masked."""
    uri = _section(record, "tracking").get("uri") if record is not None else None
    return resolve_uri(uri if isinstance(uri, str) and MASK not in uri else None)


def _step(record: JobRecord, artifact: Artifact) -> LineageNode:
    segmenter = tokenizer = None
    if record.output.kind == "shards":
        cut_by, chosen = (_section(record, name) for name in ("segmenter", "tokenizer"))
        options = cut_by.get("options")
        segmenter = f"{cut_by.get('name')}" + (f" {json.dumps(options)}" if options else "")
        if chosen:
            trained = f"byte-level BPE of {chosen.get('vocab_size')}, trained on the corpus"
            tokenizer = str(chosen.get("path") or trained)
    return LineageNode(
        artifact,
        job=record.job,
        finished=record.finished,
        segmenter=segmenter,
        tokenizer=tokenizer,
        code=record.versions.get("git") or record.versions.get("sllm"),
        metrics=record.metrics,
    )


def _section(record: JobRecord, name: str) -> dict[str, Any]:
    """A section of a record's configuration; empty where there is none."""
    section = record.config.get(name)
    return section if isinstance(section, dict) else {}


def _tree(step: LineageNode) -> Tree:
    tree = Tree(_label(step))
    _grow(tree, step, shown=set())
    return tree


def _grow(tree: Tree, step: LineageNode, shown: set[tuple[str, str]]) -> None:
    nexts = step.made_from or step.went_into
    files = [each for each in nexts if each.job is None]
    for each in [*files[:FILES_SHOWN], *(each for each in nexts if each.job is not None)]:
        key = (each.artifact.path, each.artifact.digest)
        if key in shown and (each.made_from or each.went_into):
            tree.add(f"{_name(each)} [dim](as above)[/dim]")
            continue
        shown.add(key)
        _grow(tree.add(_label(each)), each, shown)
    if len(files) > FILES_SHOWN:
        tree.add(f"[dim]and {len(files) - FILES_SHOWN} more (--json shows all)[/dim]")


def _name(step: LineageNode) -> str:
    artifact = step.artifact
    path = _short_path(artifact.path)
    return f"[bold]{escape(artifact.kind)}[/bold] {escape(path)} [dim]{escape(artifact.digest[:12])}[/dim]"


def _short_path(path: str) -> str:
    """The path, relative if it is below the current folder."""
    here = Path.cwd()
    return str(Path(path).relative_to(here)) if Path(path).is_relative_to(here) else path


def _label(step: LineageNode) -> str:
    lines = [_name(step)]
    if step.documents is not None:
        lines[0] += f" [blue]({_split(step.documents)})[/blue]"
    if step.note:
        lines[0] += f" [yellow]({escape(step.note)})[/yellow]"
    if step.job is not None:
        code = f", code {step.code[:12]}{'+changes' if '+' in step.code else ''}" if step.code else ""
        rest = escape(f", run {step.artifact.run_id or 'not in MLflow yet'}, {step.finished}{code}")
        lines.append(f"by [cyan]{escape(step.job)}[/cyan]{rest}")
    if step.segmenter:
        lines.append(escape(f"segmenter {step.segmenter}; tokenizer {step.tokenizer}"))
    if shown_metrics := _shown_metrics(step):
        lines.append(
            f"[green]{escape(', '.join(f'{key} {value:.6g}' for key, value in shown_metrics.items()))}[/green]"
        )
    return "\n".join(lines)


def _split(documents: dict[str, int]) -> str:
    counted = [f"{split}: {count:,} documents" for split, count in documents.items() if count]
    return ", ".join(counted) or "no document of it"


def _shown_metrics(step: LineageNode) -> dict[str, float]:
    def last(name: str) -> str:
        return name.rpartition("/")[2]

    held_out = [
        name for name in step.metrics if step.artifact.kind != "model" or not name.startswith("train/")
    ]
    names = sorted(
        (name for name in held_out if last(name) in _METRICS), key=lambda name: _METRICS.index(last(name))
    )
    return {name: step.metrics[name] for name in names[:METRICS_SHOWN]}
