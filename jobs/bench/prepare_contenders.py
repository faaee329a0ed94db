"""The contenders of `sllm bench prepare`: each turns the same file into tokens.

`python -m jobs.bench.prepare_contenders CONTENDER FOLDER WORKERS SEGMENTER whole|start` runs one, in its own process.
"""

import gzip
import itertools
import json
import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipeline.config import load_config
from pipeline.tokenization.tokenizer import Tokenizer

BATCH = 256
"""Documents per call of a peer."""


@dataclass(frozen=True)
class ContenderInput:
    """The input of a contender."""

    file: str
    tokenizer: str
    output: str
    num_workers: int
    segmenter: str

    def rows(self) -> Iterator[str]:
        """The texts."""
        with gzip.open(self.file, "rt") as lines:
            for line in lines:
                yield json.loads(line)["text"]


def _ours(given: ContenderInput, launcher: str) -> None:
    from jobs.prepare import prepare

    overrides = [
        f"data.inputs=[{given.file}]",
        f"segmenter.name={given.segmenter}",
        f"tokenizer.path={given.tokenizer}",
        f"prepare.num_workers={given.num_workers}",
        f"launcher={launcher}",
    ]
    prepare(load_config(None, overrides), given.output)


def _sllm_job(given: ContenderInput) -> None:
    from jobs.prepare import run

    overrides = [
        *(f"data.inputs=[{given.file}]", f"output={given.output}"),
        *(f"segmenter.name={given.segmenter}", f"tokenizer.path={given.tokenizer}"),
        *(f"prepare.num_workers={given.num_workers}", f"tracking.uri=sqlite:///{given.output}.db"),
    ]
    run(load_config(str(Path(__file__).parents[1] / "presets" / "prepare.yaml"), overrides))


def _engine_alone(given: ContenderInput) -> None:
    tokenizer = Tokenizer.load(given.tokenizer)
    for batch in _batched(given.rows()):
        tokenizer.encode(batch)


def _tokenizers_alone(given: ContenderInput) -> None:
    import tokenizers

    tokenizer = tokenizers.Tokenizer.from_file(f"{given.tokenizer}/tokenizer.json")
    for batch in _batched(given.rows()):
        for encoding in tokenizer.encode_batch_fast(batch, add_special_tokens=False):
            _ = encoding.ids


def _tiktoken_alone(given: ContenderInput) -> None:
    import tiktoken
    from tokenizers import decoders

    vocab = json.loads(Path(given.tokenizer, "tokenizer.json").read_bytes())["model"]["vocab"]
    characters = {chr(_character_of_byte(byte)): byte for byte in range(256)}
    assert decoders.ByteLevel().decode([chr(_character_of_byte(0x41))]) == "A"
    ranks = {
        bytes(characters[c] for c in token): rank
        for token, rank in vocab.items()
        if all(c in characters for c in token)
    }
    pattern = r"'(?:[sdmt]|ll|ve|re)| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"
    encoding = tiktoken.Encoding("bench", pat_str=pattern, mergeable_ranks=ranks, special_tokens={})
    for text in given.rows():
        encoding.encode_ordinary(text)


def _gigatoken_alone(given: ContenderInput) -> None:
    import gigatoken

    tree = json.loads(Path(given.tokenizer, "tokenizer.json").read_bytes())
    # It would find special tokens in a text, which we encode as ordinary text.
    tokenizer = gigatoken.Tokenizer.from_json(json.dumps({**tree, "added_tokens": []}))
    for batch in _batched(given.rows()):
        tokenizer.encode_batch(batch, parallel=False)


def _character_of_byte(byte: int) -> int:
    """GPT-2's printable character of a byte."""
    printable = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    others = [other for other in range(256) if other not in printable]
    return byte if byte in printable else 256 + others.index(byte)


def _datasets(given: ContenderInput) -> None:
    import datasets
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(given.tokenizer, trust_remote_code=False)
    loaded = datasets.load_dataset(
        "json", data_files=given.file, split="train", cache_dir=f"{given.output}.cache"
    )
    loaded.map(
        lambda batch: {"input_ids": tokenizer(batch["text"], add_special_tokens=False)["input_ids"]},
        batched=True,
        batch_size=BATCH,
        remove_columns=loaded.column_names,
        num_proc=given.num_workers if len(loaded) > BATCH else None,
    ).save_to_disk(given.output)


class _RayDataTokenizer:
    def __init__(self, folder: str) -> None:
        from transformers import AutoTokenizer

        self._tokenizer = AutoTokenizer.from_pretrained(folder, trust_remote_code=False)

    def __call__(self, batch: dict[str, Any]) -> dict[str, Any]:
        ids = self._tokenizer(list(batch["text"]), add_special_tokens=False)["input_ids"]
        return {"input_ids": ids}


def _ray_data(given: ContenderInput) -> None:
    import ray

    ray.init(num_cpus=given.num_workers + 1, include_dashboard=False)
    ray.data.read_json(given.file).repartition(given.num_workers * 4).map_batches(
        _RayDataTokenizer,
        fn_constructor_args=(given.tokenizer,),
        batch_size=BATCH,
        compute=ray.data.ActorPoolStrategy(size=given.num_workers),
    ).write_parquet(given.output)


def _datatrove(given: ContenderInput) -> None:
    from datatrove.executor import LocalPipelineExecutor
    from datatrove.pipeline.readers import JsonlReader
    from datatrove.pipeline.tokens import DocumentTokenizer

    source = Path(given.file)
    LocalPipelineExecutor(
        pipeline=[
            JsonlReader(str(source.parent), glob_pattern=source.name),
            DocumentTokenizer(
                given.output, tokenizer_name_or_path=f"{given.tokenizer}/tokenizer.json", eos_token=None
            ),
        ],
        logging_dir=f"{given.output}.log",
    ).run()


def _batched(rows: Iterator[str]) -> Iterator[list[str]]:
    while batch := list(itertools.islice(rows, BATCH)):
        yield batch


CONTENDERS: dict[str, tuple[str, Callable[[ContenderInput], None]]] = {
    "sllm prepare (the recorded job)": ("mlflow", _sllm_job),
    "sllm shards, launcher=ray": ("ray", lambda given: _ours(given, "ray")),
    "sllm shards, launcher=local": ("tokenizers", lambda given: _ours(given, "local")),
    "our engine alone": ("tokenizers", _engine_alone),
    "tokenizers alone": ("tokenizers", _tokenizers_alone),
    "tiktoken alone": ("tiktoken", _tiktoken_alone),
    "gigatoken alone": ("gigatoken", _gigatoken_alone),
    "datasets.map": ("datasets", _datasets),
    "Ray Data map_batches": ("ray.data", _ray_data),
    "datatrove (no sentences)": ("datatrove", _datatrove),
}
"""By name: the package that it needs, and its function."""


def _contend(contender: str, folder: str, num_workers: str, segmenter: str, which: str) -> None:
    with tempfile.TemporaryDirectory() as output:
        CONTENDERS[contender][1](
            ContenderInput(
                f"{folder}/{which}.jsonl.gz",
                f"{folder}/tokenizer",
                f"{output}/out",
                int(num_workers),
                segmenter,
            )
        )


if __name__ == "__main__":
    _contend(*sys.argv[1:])
