"""How every job runs: reuse what is finished, refuse what does not match, else run it as one MLflow run."""

import dataclasses
import datetime
import json
import signal
import sys
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import ValidationError

from infra.mlflow_run import ActiveRun, check_store, resolve_uri, start_run
from infra.provenance import code_versions, ray_job_tags
from jobs.runner.output_folder import absolute, job_place
from pipeline.config import Config
from pipeline.config.renamed import tree_with_current_names
from pipeline.errors import ConfigError, SllmError
from pipeline.lineage import (
    Artifact,
    JobRecord,
    identity,
)
from pipeline.redaction import redacted, redacted_tree

if TYPE_CHECKING:
    from pipeline.shards.manifest import Manifest


def run_job(
    job: str,
    config: Config,
    *,
    sections: Sequence[str],
    inputs: Sequence[Artifact],
    output: str,
    output_kind: str,
    body: Callable[[ActiveRun], dict[str, float]],
    check: Callable[[], None] = lambda: None,
    without: Sequence[str] = (),
    grows: str | None = None,
    beside: Sequence[str] = (),
    force: bool = False,
    replace_other: bool = False,
) -> JobRecord:
    """Run `body` as one MLflow run that writes to the folder `output`; or reuse the finished run that did.

    `sections` are the dotted keys of the configuration that decide the result; with the inputs' digests they
    are the job's identity; keys in `without` are left out of it. A number at the key `grows` may become larger: the
    job then goes on from where it was, as a run of its own where that had finished. `body` returns the final metrics;
    `check` raises what can be told before work: then no run is started and nothing is written. `force` first removes
    what the earlier job wrote. A job that was interrupted goes on in its own run. `beside` are keys that the job uses
    and that do not decide its result: they stand among the run's parameters too.

    Raises `ConfigError` where `output` holds the work of a job of another identity; with `replace_other` (for what
    is cheap to make again) only where it is another kind of job's.
    """
    place = job_place(output, output_kind)
    whole = config.model_dump(mode="json")
    tree = redacted_tree(whole)
    tree["tracking"]["uri"] = resolve_uri(tree["tracking"]["uri"])
    part = _part(tree, sections, without)
    this = identity(job, _part(whole, sections, without), inputs)
    is_shown_whole = part == _part(whole, sections, without)
    earlier = place.read()
    grown: JobRecord | None = None
    inputs = [dataclasses.replace(artifact, path=redacted(absolute(artifact.path))) for artifact in inputs]
    if earlier is not None and not force:
        then = _part(_as_today(earlier.config), sections, without)
        same_work = earlier.job == job and _digests(earlier.inputs) == _digests(inputs)
        if same_work and then != part and grows is not None and _grown(then, part, grows):
            grown = earlier
        elif earlier.identity != this and not (same_work and then == part and is_shown_whole):
            if replace_other and earlier.job == job:
                force = True
            elif earlier.finished is not None or place.left_something(inputs):
                raise ConfigError(_difference(earlier, job, then, part, inputs, output))
            else:
                earlier = None
        elif place.is_whole(earlier):
            _say(f"reuse {output}: {job} run {earlier.run_id}, finished {earlier.finished}")
            return earlier
    place.check(earlier, [artifact.path for artifact in inputs], force)
    check()
    check_store(config.tracking)
    with place.held():
        replaced = earlier if force else None
        unfinished = earlier if not force and earlier is not None and earlier.finished is None else None
        run = start_run(
            config.tracking,
            name=f"{job} {Path(output).name}",
            output=output,
            resume=unfinished.run_id if unfinished else None,
        )
        record = JobRecord(
            job=job,
            identity=this,
            config=tree,
            inputs=tuple(inputs),
            output=Artifact(output_kind, output, digest="", run_id=run.run_id),
            run_id=run.run_id,
            metrics={},
            versions=code_versions(),
            started=unfinished.started if unfinished else _now(),
            finished=None,
            files=grown.files if grown is not None else {},
        )
        went_on = "goes on in" if unfinished and unfinished.run_id == run.run_id else "starts as"
        _say(f"{job} -> {output}: {went_on} MLflow run {run.run_id}")
        with _ended(run), _interruptible():
            if replaced is not None:
                place.remove(replaced, inputs)
            place.write(record)
            continued = {"sllm.continues": grown.run_id} if grown and grown.run_id != run.run_id else {}
            run.log_start(
                _parameters(tree, [*sections, *beside], inputs), inputs, {**_tags(record), **continued}
            )
            metrics = body(run)
            run.close()
            made = place.describe(run.run_id, inputs)
            with _said(run, output):
                run.log_output(dataclasses.replace(made, path=absolute(output)), metrics)
            record = dataclasses.replace(
                record,
                output=made,
                metrics={key: float(value) for key, value in metrics.items()},
                finished=_now(),
                files=place.written(inputs),
            )
            place.write(record)
    return record


def _parameters(tree: Mapping[str, Any], keys: Sequence[str], inputs: Sequence[Artifact]) -> dict[str, Any]:
    """What the run's parameters say: the configuration at the keys that the job uses, and what made its shards.

    Of several shard folders with different makers the names are joined by ` + `.
    """
    found: dict[str, Any] = {}
    for key in ("output", "tracking", *keys):
        *parents, last = key.split(".")
        node = found
        for parent in parents:
            node = node.setdefault(parent, {})
        node[last] = _at(tree, key)
    made = [manifest for artifact in inputs if (manifest := _manifest(artifact)) is not None]
    if made:
        fingerprints = [one.segmenter for one in made]
        found["segmenter"] = {
            "name": _joined([str(one["name"]) for one in fingerprints]),
            "options": _joined([json.dumps(one.get("options", {}), sort_keys=True) for one in fingerprints]),
        }
        found["tokenizer"] = {"digest": _joined([one.tokenizer_digest for one in made])}
    return found


def _manifest(artifact: Artifact) -> "Manifest | None":
    """Of shards that a job reads."""
    if artifact.kind != "shards":
        return None
    from pipeline.shards.reading import open_shards  # heavy, and of no use where a finished job is reused

    try:
        return open_shards(artifact.path).manifest
    except (SllmError, OSError):
        return None


def _joined(values: Sequence[str]) -> str:
    return " + ".join(dict.fromkeys(values))


@contextmanager
def _ended(run: ActiveRun) -> Iterator[None]:
    """End the run as what became of it; trouble with the store never hides the job's own error."""
    try:
        yield
    except BaseException as error:
        status = "KILLED" if isinstance(error, KeyboardInterrupt | SystemExit) else "FAILED"
        try:
            run.close()
            run.end(status, error)
        except Exception as trouble:
            error.add_note(
                f"and its MLflow run {run.run_id} could not be ended as {status}: {redacted(str(trouble))}"
            )
        raise
    with _said(run, run.output):
        run.end("FINISHED")


@contextmanager
def _said(run: ActiveRun, output: str) -> Iterator[None]:
    """Say what the store did not take of a job that has done its work: the result is whole without it."""
    try:
        yield
    except Exception as error:
        line = (str(error).strip() or type(error).__name__).splitlines()[0]
        _say(
            f"warning: MLflow run {run.run_id} could not be brought to its end ({redacted(line)}); "
            f"{output} and its record are whole"
        )


@contextmanager
def _interruptible() -> Iterator[None]:
    """A polite kill (SIGTERM, what schedulers send first) ends the job as Ctrl-C does."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def interrupt(_signal: int, _frame: object) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _tags(record: JobRecord) -> dict[str, str]:
    parents = [artifact.run_id for artifact in record.inputs if artifact.run_id]
    tags = {
        "sllm.job": record.job,
        "sllm.identity": record.identity,
        "sllm.parents": ",".join(dict.fromkeys(parents)),
        **{f"version.{package}": version for package, version in record.versions.items()},
        **ray_job_tags(),
    }
    if commit := record.versions.get("git"):
        tags["mlflow.source.git.commit"] = commit.split("+")[0]
    return {key: value for key, value in tags.items() if value}


def _difference(
    earlier: JobRecord,
    job: str,
    before: Mapping[str, Any],
    part: Mapping[str, Any],
    inputs: Sequence[Artifact],
    output: str,
) -> str:
    state = "finished" if earlier.finished else "unfinished"
    remedy = "name another output, or replace it with --force"
    if earlier.job != job:
        return (
            f"{output} holds the {state} work of {earlier.job} (run {earlier.run_id}), not of {job}: {remedy}"
        )
    changes = list(_changes(before, part))
    then = {(artifact.kind, artifact.digest): artifact.path for artifact in earlier.inputs}
    now = {(artifact.kind, artifact.digest): artifact.path for artifact in inputs}
    changes += [
        f"{kind} {path} is new or changed"
        for (kind, digest), path in now.items()
        if (kind, digest) not in then
    ]
    changes += [f"{kind} {path} is gone" for (kind, digest), path in then.items() if path not in now.values()]
    changes = changes or ["the inputs stand in another order"]
    shown = "; ".join(changes[:5]) + (f"; and {len(changes) - 5} more" if len(changes) > 5 else "")
    return f"{output} holds the {state} {job} run {earlier.run_id} of another making ({shown}): {remedy}"


def _changes(then: Any, now: Any) -> Iterator[str]:
    for key, before, after in _differing(then, now):
        yield f"{key} was {before!r}, is {after!r}"


def _differing(then: Any, now: Any, key: str = "") -> Iterator[tuple[str, Any, Any]]:
    """Dotted key and both values of each difference."""
    if isinstance(then, Mapping) and isinstance(now, Mapping):
        for name in sorted({*then, *now}):
            yield from _differing(then.get(name), now.get(name), f"{key}.{name}" if key else name)
    elif then != now:
        yield key, then, now


def _part(tree: Mapping[str, Any], sections: Sequence[str], without: Sequence[str]) -> dict[str, Any]:
    """The sections of a configuration that decide a job's result."""
    return {key: _less(_at(tree, key), key, without) for key in sections}


def _less(node: Any, key: str, without: Sequence[str]) -> Any:
    if not isinstance(node, Mapping):
        return node
    return {
        name: _less(value, f"{key}.{name}", without)
        for name, value in node.items()
        if f"{key}.{name}" not in without
    }


def _as_today(config: dict[str, Any]) -> dict[str, Any]:
    """An earlier configuration with the defaults of options that have come since; as it is where that cannot be."""
    try:
        return redacted_tree(Config.model_validate(tree_with_current_names(config)).model_dump(mode="json"))
    except ValidationError:
        return config


def _grown(then: dict[str, Any], now: dict[str, Any], key: str) -> bool:
    """Whether only the number at `key` differs, and is larger now."""
    changes = {name: (before, after) for name, before, after in _differing(then, now)}
    before, after = changes.get(key, (0, 0))
    return changes.keys() == {key} and isinstance(before, int) and before < after


def _digests(inputs: Sequence[Artifact]) -> list[tuple[str, str]]:
    return [(artifact.kind, artifact.digest) for artifact in inputs]


def _at(tree: Mapping[str, Any], key: str) -> Any:
    node: Any = tree
    for name in key.split("."):
        node = node.get(name) if isinstance(node, Mapping) else None
    return node


def _now() -> str:
    return datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)
