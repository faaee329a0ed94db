"""A store with thousands of runs, and how long questions to it take: `python -m tests.infra.tracking.large_store`.

Chains of five runs (prepare, three models, a report) are logged once as jobs do it, and copied in the database. Each
prepare run reads 100 files; each file is read by 20 of them, if there are that many.
"""

import argparse
import contextlib
import hashlib
import os
import re
import sys
import tempfile
import time
import uuid
from pathlib import Path

import psutil

from infra.tracking.corpus_files import input_tags
from infra.tracking.run import start_run
from jobs.lineage.differences import differences
from jobs.lineage.scores import scores
from jobs.lineage.subject import subject_of
from jobs.lineage.walk import walk_back, walk_forward
from pipeline.config import Config, TrackingConfig
from pipeline.lineage import Artifact

FILES, FILES_A_CHAIN, STEP = 10_000, 100, 5
SECTIONS = {
    "prepare": ("shards", ["data", "segmenter", "tokenizer", "prepare"], []),
    "train-lm": ("model", ["trunk", "lm", "stream", "precision"], ["prepare"]),
    "train-vae": ("model", ["trunk", "lm", "vae", "stream"], ["prepare", "train-lm"]),
    "train-sllm": ("model", ["trunk", "vae", "sllm", "stream"], ["prepare", "train-lm", "train-vae"]),
    "evaluate": ("report", ["evaluate"], ["prepare", "train-lm", "train-vae", "train-sllm"]),
}
_TABLES = ("runs", "params", "tags", "latest_metrics", "datasets", "inputs", "input_tags")


def sha256(text):
    return hashlib.sha256(str(text).encode()).hexdigest()


def files_of_chain(number):
    chosen = [(number * STEP + i) % FILES for i in range(FILES_A_CHAIN)]
    return [Artifact("corpus", f"/corpus/{i}.jsonl", sha256(f"file {i}")) for i in chosen]


def log_chain(uri, folder):
    """One chain, as jobs log it -> the artifacts by verb."""
    whole = Config().model_dump(mode="json")
    made = {}
    for verb, (kind, sections, parents) in SECTIONS.items():
        output = Path(folder, verb)
        run = start_run(TrackingConfig(uri=uri), f"{verb} {verb}", str(output))
        inputs = [made[parent] for parent in parents] or [
            *files_of_chain(0),
            Artifact("segmenter", "punctuation_v1", sha256("punctuation_v1")),
        ]
        config = {name: whole[name] for name in sections} | {"output": str(output)}
        run.log_start(config, inputs, {"sllm.job": verb, "sllm.identity": sha256(f"identity {verb}")})
        digest = sha256(f"output {verb}")
        metrics = (
            {f"{name}/bits_per_byte": 2.5 for name in ("lm", "sllm")} if kind == "report" else {"loss": 1.0}
        )
        run.log_output(Artifact(kind, str(output), digest, run.run_id), {**metrics, "lm/documents": 5})
        run.end("FINISHED")
        assert run.close()
        made[verb] = Artifact(kind, str(output), digest, run.run_id)
    return made


def copy_chains(database, made, copies):
    """Copy the chain in the database, with ids and digests of its own for each copy."""
    import sqlalchemy as sa

    engine = sa.create_engine(database)
    tables = sa.MetaData()
    tables.reflect(engine, only=_TABLES)
    runs = [one.run_id for one in made.values()]
    outputs = [one.digest for one in made.values()]
    with engine.begin() as connection:
        rows = {}
        for name in _TABLES:
            table = tables.tables[name]
            rows[name] = [dict(row._mapping) for row in connection.execute(table.select())]
        prefixes = {digest[:36] for digest in outputs}
        rows["datasets"] = [row for row in rows["datasets"] if row["digest"] in prefixes]
        rows["tags"] = [
            row for row in rows["tags"] if not row["key"].startswith(("sllm.files.", "sllm.paths."))
        ]
        ids = [row["input_uuid"] for row in rows["inputs"]] + [
            row["dataset_uuid"] for row in rows["datasets"]
        ]
        tokens = re.compile("|".join([*outputs, *(digest[:36] for digest in outputs), *runs, *ids]))
        for start in range(1, copies + 1, 100):
            batch = {name: [] for name in _TABLES}
            for number in range(start, min(start + 100, copies + 1)):

                def renamed(found, number=number):
                    token = found[0]
                    whole = next((digest for digest in outputs if digest.startswith(token)), token)
                    new = sha256(f"{number} {whole}")
                    return str(uuid.UUID(new[:32])) if "-" in token else new[: len(token)]

                def copied(row, renamed=renamed):
                    return {
                        key: tokens.sub(renamed, value) if isinstance(value, str) else value
                        for key, value in row.items()
                    }

                for name, found in rows.items():
                    batch[name] += [copied(row) for row in found]
                run_id = sha256(f"{number} {made['prepare'].run_id}")[:32]
                batch["tags"] += [
                    {"key": key, "value": value, "run_uuid": run_id}
                    for key, value in input_tags(files_of_chain(number)).items()
                ]
            for name in _TABLES:
                connection.execute(tables.tables[name].insert(), batch[name])
    engine.dispose()
    return {verb: sha256(f"{copies} {one.run_id}")[:32] for verb, one in made.items()}


def questions(uri, first, last):
    """Each question once -> what was found, wall seconds, and CPU seconds, also of the servers."""
    from infra.tracking.search import RunSearch

    file = Artifact("corpus", "/corpus/7.jsonl", sha256("file 7"))
    changed = Artifact("corpus", "/corpus/7.jsonl", sha256("changed"))

    def back(run_id):
        subject = subject_of(run_id, uri)
        return walk_back(subject.artifact, uri, subject.record)

    def count(nodes, way):
        return len(nodes) + sum(count(getattr(node, way), way) for node in nodes)

    def differ():
        return len(differences(back(first["train-sllm"]), back(last["train-sllm"])))

    asked = {
        "which models saw this file": lambda: count(
            walk_forward(file, RunSearch(uri)).went_into, "went_into"
        ),
        "which segmenter won on this corpus": lambda: len(scores(walk_forward(file, RunSearch(uri)))),
        "which runs are stale since it changed": lambda: count(
            walk_forward(changed, RunSearch(uri)).stale, "went_into"
        ),
        "what is this run made from": lambda: count(back(last["evaluate"]).made_from, "made_from"),
        "what differs between two runs": differ,
    }
    for question, ask in asked.items():
        wall, cpu = time.perf_counter(), cpu_seconds()
        found = ask()
        yield question, found, time.perf_counter() - wall, cpu_seconds() - cpu


def cpu_seconds():
    """Of this process and those below it."""
    this = psutil.Process()
    times = [process.cpu_times() for process in (this, *this.children(recursive=True))]
    return sum(each.user + each.system for each in times)


def main(arguments):
    """Make a store, ask, print a line per question."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("--runs", type=int, default=10_000)
    parser.add_argument("--store", choices=("sqlite", "postgresql"), default="sqlite")
    given = parser.parse_args(arguments)
    start = time.perf_counter()
    from infra.tracking.store import client_of

    with contextlib.ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="sllm-large-")))
        uri = database = f"sqlite:///{folder}/mlflow.db"
        if given.store == "postgresql":
            from tests.infra.tracking.mlflow_server import mlflow_server
            from tests.infra.tracking.postgres import postgres

            (folder / "pg").mkdir()
            database = stack.enter_context(postgres(folder / "pg"))
            port, _ = stack.enter_context(mlflow_server(database, folder))
            uri = f"http://127.0.0.1:{port}"
        client_of(uri)
        print(f"import of mlflow, and the store: {time.perf_counter() - start:.1f} s")
        start = time.perf_counter()
        made = log_chain(uri, folder / "work")
        last = copy_chains(database, made, given.runs // len(SECTIONS) - 1)
        print(f"{given.runs:,} runs made in {time.perf_counter() - start:.1f} s")
        first = {verb: one.run_id for verb, one in made.items()}
        print(f"load of the machine: {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores")
        for question, found, wall, cpu in questions(uri, first, last):
            print(f"{question:40} {found:6,} found {wall:7.2f} s {cpu:7.2f} CPU s", flush=True)


if __name__ == "__main__":
    main(sys.argv[1:])
