"""What jobs have written, read without any code of the product: shards, points of metrics, weights, records."""

import hashlib
import json
import sqlite3
import urllib.request
import xml.etree.ElementTree as ElementTree
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pyarrow as pa

_SIGNED = (
    "AWS4-HMAC-SHA256 Credential=faults/20260101/us-east-1/s3/aws4_request, SignedHeaders=host, Signature=0"
)
"""moto denies who does not sign, and checks no signature."""
MEASURED = ("per_second", "data_wait", "seconds", "memory")
"""Parts of the names of metrics that measure time or memory and differ from run to run."""


@dataclass(frozen=True)
class Shards:
    """The shards of one job."""

    digests: dict[str, str]
    """SHA-256 of each file of documents, and of what was rejected."""
    documents: dict[str, list[str]] = field(default_factory=dict)
    """For each document id the digests of its token ids and sentence lengths: more than one where it is there
    twice."""
    left: tuple[str, ...] = ()
    """Files of unfinished work."""


@dataclass(frozen=True)
class Runs:
    """The MLflow runs of one experiment."""

    statuses: dict[str, str]
    """Status of each run, by its id."""
    points: dict[str, dict[int, list[float]]]
    """Values of each metric at each step, in the order of their time; more than one where a step is there twice."""


@dataclass(frozen=True)
class Model:
    """The weights of a model."""

    digest: str
    """SHA-256 of the file of weights."""


def files(place: str) -> dict[str, bytes]:
    """Content of all files below a folder, or below `http://HOST:PORT/BUCKET/PREFIX` of a server of S3."""
    if not place.startswith("http"):
        root = Path(place)
        found = (path for path in root.rglob("*") if path.is_file() and not path.is_symlink())
        return {path.relative_to(root).as_posix(): path.read_bytes() for path in found}
    return {name: _get(f"{place}/{name}") for name in names(place)}


def names(place: str) -> list[str]:
    """Names of the files; none where there is no such place."""
    if not place.startswith("http"):
        root = Path(place)
        return [path.relative_to(root).as_posix() for path in root.rglob("*") if path.is_file()]
    scheme, _, host, bucket, prefix = place.split("/", 4)
    listing = ElementTree.fromstring(  # our own server's
        _get(f"{scheme}//{host}/{bucket}?list-type=2&max-keys=1000&prefix={prefix}/")
    )
    keys = [element.text or "" for element in listing.iter() if element.tag.endswith("}Key")]
    return [key.removeprefix(f"{prefix}/") for key in keys]


def read_shards(place: str) -> Shards:
    """Read all shards by pyarrow alone."""
    digests: dict[str, str] = {}
    documents: dict[str, list[str]] = {}
    left = []
    for name, content in sorted(files(place).items()):
        if name.endswith(".arrow"):
            digests[name] = hashlib.sha256(content).hexdigest()
            for doc_id, digest in _rows(content):
                documents.setdefault(doc_id, []).append(digest)
        elif name in ("rejected.jsonl", "tokenizer/tokenizer.json"):
            digests[name] = hashlib.sha256(content).hexdigest()
        elif name.startswith("progress/") or name.endswith(".partial"):
            left.append(name)
    return Shards(digests, documents, tuple(left))


def _rows(content: bytes) -> Iterator[tuple[str, str]]:
    table = pa.ipc.open_file(pa.BufferReader(content)).read_all()
    for row in table.to_pylist():
        text = json.dumps([row["tokens"], row["sentence_lengths"], row["num_bytes"]])
        yield row["doc_id"], hashlib.sha256(text.encode()).hexdigest()


def read_runs(database: Path, experiment: str) -> Runs:
    """Read the runs of an experiment from MLflow's SQLite file."""
    with closing(sqlite3.connect(database, timeout=30)) as store:
        runs = store.execute(
            "select run_uuid, status from runs join experiments using (experiment_id) "
            "where experiments.name = ? and runs.lifecycle_stage = 'active'",
            (experiment,),
        ).fetchall()
        points: dict[str, dict[int, list[float]]] = {}
        for run, _ in runs:
            rows = store.execute(
                "select key, step, value from metrics where run_uuid = ? order by timestamp", (run,)
            )
            for key, step, value in rows:
                points.setdefault(key, {}).setdefault(step, []).append(value)
    return Runs(dict(runs), points)


def read_model(place: str) -> Model | None:
    """The weights in a folder of a model; None where there are none."""
    found = files(place).get("model.safetensors")
    return None if found is None else Model(hashlib.sha256(found).hexdigest())


def read_record(place: str) -> dict[str, Any] | None:
    """The content of `job.json`; None where there is none."""
    found = files(place).get("job.json") if place.startswith("http") else _local(Path(place, "job.json"))
    return None if found is None else json.loads(found)


def _local(file: Path) -> bytes | None:
    return file.read_bytes() if file.is_file() else None


def finished_units(place: str) -> dict[str, int]:
    """Shards of the work units that a stopped `prepare` had finished, with the time of their writing in ns."""
    root = Path(place)
    finished = {file.stem for file in (root / "progress").glob("*.json")}
    return {
        file.name: file.stat().st_mtime_ns
        for file in root.glob("*.arrow")
        if file.stem.rpartition("-")[2] in finished
    }


def _get(url: str) -> bytes:
    request = urllib.request.Request(url, headers={"Authorization": _SIGNED})  # noqa: S310 - our own server's
    with urllib.request.urlopen(request, timeout=30) as answer:  # noqa: S310
        return answer.read()
