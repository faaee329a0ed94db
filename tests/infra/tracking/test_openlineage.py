"""OpenLineage events: their form is that of the specification, and no job waits for a catalogue or fails with it."""

import dataclasses
import json
import time

import jsonschema
import pytest
from openlineage.client.serde import Serde

from infra.tracking import openlineage
from infra.tracking.openlineage import JobEvents, job_event, job_events, open_client
from infra.tracking.run import start_run
from pipeline.config import TrackingConfig
from pipeline.errors import ConfigError, TrainingError
from pipeline.lineage import Artifact, JobRecord

_FACETS = {
    "type": "object",
    "additionalProperties": {
        "type": "object",
        "required": ["_producer", "_schemaURL"],
        "properties": {name: {"type": "string", "format": "uri"} for name in ("_producer", "_schemaURL")},
    },
}
_TEXT = {"type": "string", "minLength": 1}
_DATASET = {
    "type": "object",
    "required": ["namespace", "name"],
    "properties": {
        "namespace": _TEXT, "name": _TEXT,
        "facets": _FACETS, "inputFacets": _FACETS, "outputFacets": _FACETS,
    },
    "additionalProperties": False,
}  # fmt: skip
SCHEMA = {
    "$schema": "https://json-schema.org/draft/2020-12/schema",
    "type": "object",
    "required": ["eventTime", "producer", "schemaURL", "run", "job", "eventType"],
    "properties": {
        "eventTime": {"type": "string", "format": "date-time"},
        "producer": {"type": "string", "format": "uri"},
        "schemaURL": {
            "type": "string",
            "pattern": "^https://openlineage.io/spec/2-0-[0-9]+/OpenLineage.json#",
        },
        "eventType": {"enum": ["START", "RUNNING", "COMPLETE", "ABORT", "FAIL", "OTHER"]},
        "run": {
            "type": "object",
            "required": ["runId"],
            "properties": {"runId": {"type": "string", "format": "uuid"}, "facets": _FACETS},
        },
        "job": {
            "type": "object",
            "required": ["namespace", "name"],
            "properties": {"namespace": _TEXT, "name": _TEXT, "facets": _FACETS},
        },
        "inputs": {"type": "array", "items": _DATASET},
        "outputs": {"type": "array", "items": _DATASET},
    },
    "additionalProperties": False,
}
"""What the specification (https://openlineage.io/spec/2-0-2/OpenLineage.json) says of an event of a run."""
REQUIRED = {
    "jobType": {"processingType", "integration"},
    "documentation": {"description"},
    "processing_engine": {"version"},
    "errorMessage": {"message", "programmingLanguage"},
    "parent": {"run", "job"},
    "version": {"datasetVersion"},
    "datasetType": {"datasetType"},
    "tags": set(),
    "outputStatistics": set(),
    "sourceCodeLocation": {"type", "url"},
}
"""The required fields of each facet that we send, by the specification of the facet."""
RUN_ID = "0123456789abcdef0123456789abcdef"


def record(**changes):
    inputs = (
        Artifact("shards", "/runs/shards", "ab" * 32, "r0"),
        Artifact("corpus", "https://me:hunter2@host/a.txt?sig=hunter2", "cd" * 32),
        Artifact("model", "s3://bucket/runs/lm", "ef" * 32),
        Artifact("segmenter", "punctuation_v1", "01" * 32),
    )
    given = JobRecord(
        job="train-vae", identity="", config={}, inputs=inputs, output=Artifact("model", "/runs/vae", ""),
        run_id=RUN_ID, metrics={}, versions={"sllm": "0.1.0", "git": "c0ffee"}, started="", finished=None,
        user="ann", host="laptop", command="sllm train-vae x", tags={"segmenter": "punctuation_v1"},
    )  # fmt: skip
    return dataclasses.replace(given, **changes)


def checked(event):
    tree = json.loads(Serde.to_json(event))
    jsonschema.Draft202012Validator(SCHEMA, format_checker=jsonschema.FormatChecker()).validate(tree)
    owners = [tree["run"], tree["job"], *tree["inputs"], *tree["outputs"]]
    facets = [one.get(kind) or {} for one in owners for kind in ("facets", "inputFacets", "outputFacets")]
    for name, facet in [pair for each in facets for pair in each.items()]:
        assert REQUIRED[name] <= facet.keys(), name
    return tree


def test_an_event_has_the_form_of_the_specification():
    begun = checked(
        job_event("START", record(), RUN_ID[:8] + "-89ab-cdef-0123-456789abcdef", None, "Trains.")
    )
    assert begun["job"]["name"] == "train-vae.vae" and begun["job"]["namespace"] == "sllm"
    assert [(one["namespace"], one["name"]) for one in begun["inputs"]] == [
        ("file", "/runs/shards"), ("https://***@host", "/a.txt"), ("s3://bucket", "runs/lm"),
        ("sllm", "segmenter/punctuation_v1"),
    ]  # fmt: skip
    assert begun["inputs"][0]["facets"]["version"]["datasetVersion"] == "ab" * 32
    assert "hunter2" not in json.dumps(begun)
    tags = {tag["key"]: tag["value"] for tag in begun["run"]["facets"]["tags"]["tags"]}
    assert tags["segmenter"] == "punctuation_v1" and tags["user"] == "ann" and tags["mlflow.run_id"] == RUN_ID


def test_the_last_event_has_the_output_and_an_error_its_line():
    made = record(finished="now", output=Artifact("model", "/runs/vae", "99" * 32), files={"a": 3, "b": 4})
    parent = ("01234567-89ab-cdef-0123-456789abcdef", "run demo")
    event = checked(job_event("COMPLETE", made, parent[0], parent, "Trains."))
    (output,) = event["outputs"]
    assert output["facets"]["version"]["datasetVersion"] == "99" * 32
    assert (output["outputFacets"]["outputStatistics"]["size"], event["eventType"]) == (7, "COMPLETE")
    assert event["run"]["facets"]["parent"]["job"]["name"] == "run demo"
    failed = checked(job_event("FAIL", record(), parent[0], None, "", TrainingError("diverged\nat step 3")))
    message = failed["run"]["facets"]["errorMessage"]["message"]
    assert message == "TrainingError: diverged at step 3"


def test_of_a_large_corpus_the_folders_are_named():
    files = tuple(Artifact("corpus", f"/corpus/{i % 3}/{i}.txt", f"{i:064x}") for i in range(2000))
    event = checked(
        job_event("START", record(inputs=files), "0" * 8 + "-0000-0000-0000-" + "0" * 12, None, "")
    )
    assert [one["name"] for one in event["inputs"]] == ["/corpus/0", "/corpus/1", "/corpus/2"]


def test_it_is_off_unless_wanted_and_must_know_where_to_send(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("OPENLINEAGE_URL", raising=False)
    assert open_client(TrackingConfig()) is None
    with pytest.raises(ConfigError, match="set OPENLINEAGE_URL"):
        open_client(TrackingConfig(openlineage=True))
    (tmp_path / "openlineage.yml").write_text("transport: {type: nothing}")
    with pytest.raises(ConfigError, match=r"configuration of the OpenLineage client cannot be used"):
        open_client(TrackingConfig(openlineage=True))


@pytest.fixture
def run(tracking_uri, tmp_path):
    run = start_run(TrackingConfig(uri=tracking_uri), "job", str(tmp_path / "out"))
    yield run
    run.close()


@pytest.fixture
def sent(monkeypatch, tmp_path):
    """A client whose events go to a file, by its own configuration; the events in it."""
    file = tmp_path / "events.jsonl"
    monkeypatch.chdir(tmp_path)
    (tmp_path / "openlineage.yml").write_text(
        f"transport: {{type: file, log_file_path: {file}, append: true}}"
    )
    return lambda: [json.loads(line) for line in file.read_text().splitlines()]


@pytest.mark.parametrize(
    ("error", "last"),
    [(None, "COMPLETE"), (TrainingError("diverged"), "FAIL"), (KeyboardInterrupt(), "ABORT")],
)
def test_a_job_begins_and_ends_in_the_catalogue(run, sent, error, last):
    events = JobEvents(open_client(TrackingConfig(openlineage=True)), record(), run, "Trains.")
    try:
        with job_events(events):
            if error is not None:
                raise error
    except BaseException as raised:
        assert raised is error
    first, second = sent()
    assert (first["eventType"], second["eventType"]) == ("START", last)
    assert first["run"]["runId"].replace("-", "") == run.run_id == second["run"]["runId"].replace("-", "")


def test_a_catalogue_that_fails_or_hangs_is_one_warning(run, sent, caplog, monkeypatch):
    client = open_client(TrackingConfig(openlineage=True))

    def refuse(_event):
        raise ConnectionError("https://me:hunter2@catalogue refused")

    monkeypatch.setattr(client, "emit", refuse)
    with job_events(JobEvents(client, record(), run, "")):
        pass
    assert caplog.text.count("OpenLineage has not got all events") == 1 and "hunter2" not in caplog.text
    monkeypatch.setattr(client, "emit", lambda _event: time.sleep(3600))
    monkeypatch.setattr(openlineage, "LAST_SECONDS", 0.2)
    begun = time.monotonic()
    with job_events(JobEvents(client, record(), run, "")):
        pass
    assert "no answer within 0.2 s" in caplog.text
    print(f"a catalogue that hangs: {time.monotonic() - begun:.1f} s at the end of the job")
