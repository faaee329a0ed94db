"""Artifacts as MLflow's datasets."""

import json
from typing import Any
from urllib.parse import urlsplit

from infra.tracking.corpus_files import Corpus, source_of
from pipeline.lineage import Artifact
from pipeline.redaction import redacted

DIGEST_CHARACTERS = 36
"""MLflow rejects a longer digest of a dataset; the full one is in the profile and in our tags."""
OUTPUT_CONTEXT = "output"
"""Context of a dataset that a run wrote: MLflow has outputs only for models, so shards are logged as inputs."""
PATH_TAG, RUN_TAG = "sllm.path", "sllm.run_id"
"""Tags of an input: its path, and the run that made it. Runs that read equal content share its dataset, with the path
and the run of the first of them."""
_INPUT_TAG_CHARACTERS = 500
"""MLflow's limit."""


def corpus_dataset(corpus: Corpus) -> Any:
    """MLflow's entity for a corpus that a run read."""
    from mlflow.entities import Dataset, DatasetInput, InputTag

    source_type, source = source_of(corpus)
    profile = {"sha256": corpus.digest, "kind": "corpus", "run_id": None, "files": corpus.num_files}
    return DatasetInput(
        Dataset(
            name=corpus.name,
            digest=corpus.digest[:DIGEST_CHARACTERS],
            source_type=source_type,
            source=json.dumps(source),
            profile=json.dumps(profile),
        ),
        [InputTag("mlflow.data.context", "corpus")],
    )


def dataset(artifact: Artifact, context: str) -> Any:
    """MLflow's entity for an artifact that a run read or wrote, as `context` says."""
    from mlflow.entities import Dataset, DatasetInput, InputTag

    scheme = urlsplit(artifact.path).scheme
    return DatasetInput(
        Dataset(
            name=name_of(artifact),
            digest=artifact.digest[:DIGEST_CHARACTERS],
            source_type=scheme or "local",
            source=json.dumps({"uri": redacted(artifact.path)}),
            profile=json.dumps({"sha256": artifact.digest, "kind": artifact.kind, "run_id": artifact.run_id}),
        ),
        [
            InputTag("mlflow.data.context", context),
            *(
                [InputTag(PATH_TAG, path)]
                if len(path := redacted(artifact.path)) <= _INPUT_TAG_CHARACTERS
                else []
            ),
            *([InputTag(RUN_TAG, artifact.run_id)] if artifact.run_id else []),
        ],
    )


def name_of(artifact: Artifact) -> str:
    """The last part of its path, without the query of a URL."""
    path = redacted(artifact.path)
    path = path.partition("?")[0] if "://" in path else path
    return path.rstrip("/").rsplit("/", 1)[-1][:500] or artifact.kind
