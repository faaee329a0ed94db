"""`sllm bench stream`: shards to batches as tensors, by sllm and by `datasets`, in one process on the same files.

The upper limit is the memory map alone: all tokens copied by numpy, in order. sllm does order, packing and layout as in
training, without the prefetch thread. A sentence-level batch is measured as it is sent to a device, which makes the
index tensors of attention itself, and with these made on the CPU too. `datasets` reads its rows shuffled, in its torch
format, and pads them. Time is CPU time on one core, so other work on the machine counts little.
"""

import dataclasses
import json
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import numpy as np
import psutil
import pyarrow as pa
import torch
from rich.table import Table

from jobs.runner.printable_console import PrintableConsole
from pipeline.config import StreamConfig
from pipeline.errors import ConfigError
from pipeline.shards.documents import Documents
from pipeline.shards.reading import Shards, open_shards
from pipeline.stream.batches import Batch, SentenceBatch, TokenBatch
from pipeline.stream.order import Corpus, MicroBatch, Stream
from pipeline.stream.windows import SentenceWindows, TokenWindows, WindowSource

DATASETS_ROWS = 16
"""Documents in a batch of `datasets`."""


@dataclass(frozen=True)
class StreamFigures:
    """Rate and padding of one contender."""

    contender: str
    tokens_per_second: float
    """Document tokens per second of CPU time, on one core."""
    unused: float | None = None
    """Share of the micro-batches' budget without document tokens."""
    padding: float | None = None
    """Share of the positions in attention that are padding: in rows of the token-level model, in buckets of the
    sentence encoder and decoder."""
    trunk_padding: float | None = None
    """Share of the positions of the sentence-level trunk without a sentence."""


@dataclass(frozen=True)
class BatchSizes:
    """Sizes of batches and windows, and seconds of measurement."""

    micro_batch_tokens: int
    context_tokens: int
    context_sentences: int
    seconds: float
    """CPU seconds per contender."""


def bench_stream(folder: str, sizes: BatchSizes, as_json: bool = False) -> list[StreamFigures]:
    """Measure all contenders on the train shards in `folder`, and print a table. Raises `ShardError`, `ConfigError`."""
    shards = open_shards(folder, verify=False)
    if shards.manifest.totals["train"].tokens == 0:
        raise ConfigError(f"{folder} has no train split to measure on")
    tokenizer = shards.tokenizer()
    ids = tokenizer.bos_id, tokenizer.eos_id

    def sentences(documents: Documents) -> WindowSource:
        return SentenceWindows(documents, sizes.context_sentences, *ids)

    def tokens(documents: Documents) -> WindowSource:
        return TokenWindows(documents, sizes.context_tokens, *ids)

    torch.set_num_threads(1)
    pa.set_cpu_count(1)
    results = [
        StreamFigures("memory map, copied by numpy (the limit)", _rate(_copied(shards), sizes.seconds)),
        _ours("sllm, token-level", shards, tokens, sizes),
        _ours("sllm, sentence-level", shards, sentences, sizes),
        _ours("sllm, sentence-level, index tensors too", shards, sentences, sizes, _expand),
        StreamFigures(
            "datasets, padded documents", _rate(_datasets(shards, _padded_documents), sizes.seconds)
        ),
        StreamFigures(
            "datasets, padded sentences", _rate(_datasets(shards, _padded_sentences), sizes.seconds)
        ),
    ]
    plan = _plan_memory(shards, sentences)
    if as_json:
        contenders = [dataclasses.asdict(measured) for measured in results]
        print(
            json.dumps(
                {"shards": folder, **dataclasses.asdict(sizes), "plan": plan, "contenders": contenders}
            )
        )
    else:
        _show(folder, sizes, results, plan)
    return results


def _rate(items: Iterator[int], seconds: float) -> float:
    """Tokens per CPU second of an iterator over counts of tokens, without the first."""
    next(items)
    total, start = 0, time.process_time()
    for count in items:
        total += count
        if time.process_time() - start > seconds:
            break
    return total / (time.process_time() - start)


def _copied(shards: Shards) -> Iterator[int]:
    documents = shards.documents("train")
    starts = documents.token_starts_N1
    cuts = np.unique(np.concatenate([np.arange(0, len(starts) - 1, 64), [len(starts) - 1]]))
    while True:
        for first, last in zip(cuts[:-1].tolist(), cuts[1:].tolist(), strict=True):
            yield len(documents.gather(starts[first:last], starts[first + 1 : last + 1]).astype(np.int64))


def _stream(shards: Shards, windows: Callable[[Documents], WindowSource], sizes: BatchSizes) -> Stream:
    tokens = np.array([record.tokens for record in shards.records("train")], np.int64)
    corpus = Corpus(tokens, lambda index: windows(shards.documents("train", index)))
    return Stream([corpus], sizes.micro_batch_tokens, seed=0)


def _ours(
    name: str,
    shards: Shards,
    windows: Callable[[Documents], WindowSource],
    sizes: BatchSizes,
    then: Callable[[Batch], None] = lambda batch: None,
) -> StreamFigures:
    def built() -> Iterator[int]:
        stream = _stream(shards, windows, sizes)
        while True:
            for micro_batch in stream.first_epoch():
                then(micro_batch.batch())
                yield micro_batch.tokens

    sample = list(islice(_stream(shards, windows, sizes).first_epoch(), 1000))
    unused = _unused(sample, sizes.micro_batch_tokens)
    return StreamFigures(name, _rate(built(), sizes.seconds), unused, *_padding(sample))


def _expand(batch: Batch) -> None:
    """Make on the CPU the index tensors that a sentence-level model makes on its device."""
    assert isinstance(batch, SentenceBatch)
    _ = batch.decoded.inputs_R, batch.decoded.targets_R, batch.sentences.masks
    for layout in (batch.sentences, batch.decoded.positions):
        _ = layout.positions_T, layout.gathers


def _unused(sample: list[MicroBatch], budget: int) -> float:
    return sum(max(budget - micro_batch.tokens, 0) for micro_batch in sample) / (budget * len(sample))


def _padding(sample: list[MicroBatch]) -> tuple[float, float | None]:
    cells = filled = trunk_cells = sentences = 0
    for micro_batch in sample:
        batch = micro_batch.batch()
        if isinstance(batch, TokenBatch):
            cells += batch.inputs_DL.numel()
            filled += micro_batch.tokens
            continue
        assert isinstance(batch, SentenceBatch)
        cells += batch.sentences.num_cells + batch.decoded.positions.num_cells
        filled += batch.sentences.num_tokens + batch.decoded.positions.num_tokens
        trunk_cells += batch.sentences_DM.numel()
        sentences += batch.sentences.num_sequences
    return 1 - filled / cells, 1 - sentences / trunk_cells if trunk_cells else None


def _datasets(shards: Shards, collate: Callable[[dict[str, list[torch.Tensor]]], None]) -> Iterator[int]:
    """Documents shuffled by `datasets`, in batches of its torch format."""
    import datasets

    datasets.disable_progress_bars()
    files = [str(Path(shards.folder, record.file)) for record in shards.records("train")]
    with tempfile.TemporaryDirectory() as cache:
        rows = datasets.load_dataset("arrow", data_files=files, split="train", cache_dir=cache)
        rows = rows.select_columns(["tokens", "sentence_lengths"]).with_format("torch").shuffle(seed=0)
        while True:
            for batch in rows.iter(DATASETS_ROWS):
                collate(batch)
                yield sum(map(len, batch["tokens"]))


def _padded_documents(batch: dict[str, list[torch.Tensor]]) -> None:
    torch.nn.utils.rnn.pad_sequence(list(batch["tokens"]), batch_first=True)


def _padded_sentences(batch: dict[str, list[torch.Tensor]]) -> None:
    pairs = zip(batch["tokens"], batch["sentence_lengths"], strict=True)
    sentences = [one for tokens, lengths in pairs for one in tokens.split(lengths.tolist())]
    torch.nn.utils.rnn.pad_sequence(sentences, batch_first=True)


def _plan_memory(shards: Shards, windows: Callable[[Documents], WindowSource]) -> dict[str, float]:
    """Memory of a block's plan and of the manifest, which grow with the data."""
    process = psutil.Process()
    before = process.memory_info().rss
    documents = shards.documents("train")
    source = windows(documents)
    arrays = [*vars(source).values(), *vars(source.windows).values()]  # type: ignore[attr-defined]
    arrays += [value for value in vars(documents).values() if isinstance(value, np.ndarray)]
    held = sum(array.nbytes for array in arrays if isinstance(array, np.ndarray))
    records = len(json.dumps([record.model_dump() for record in shards.manifest.shards]))
    count, tokens = documents.num_documents, shards.manifest.totals["train"].tokens
    return {
        "block_bytes_per_token": held / tokens,
        "block_bytes_at_most": held / tokens * StreamConfig().block_tokens,
        "resident_bytes": process.memory_info().rss - before,
        "manifest_bytes_per_million_documents": records / count * 1e6,
        "plan_bytes_per_million_documents_if_all_were_open": held / count * 1e6,
    }


def _show(folder: str, sizes: BatchSizes, results: list[StreamFigures], plan: dict[str, float]) -> None:
    table = Table(
        title=f"{folder}: micro-batches of {sizes.micro_batch_tokens} tokens, windows of {sizes.context_tokens} "
        f"tokens or {sizes.context_sentences} sentences",
        title_justify="left",
    )
    table.add_column("contender")
    for column in ("M tokens/CPU-s", "budget unused", "padding", "trunk padding"):
        table.add_column(column, justify="right")
    for row in results:
        shares = (row.unused, row.padding, row.trunk_padding)
        table.add_row(
            row.contender,
            f"{row.tokens_per_second / 1e6:.2f}",
            *("" if share is None else f"{share:.2%}" for share in shares),
        )
    console = PrintableConsole()
    console.print(table)
    console.print(
        f"plan: {plan['block_bytes_per_token']:.2f} bytes per token of the open block, at most "
        f"{plan['block_bytes_at_most'] / 1e6:.0f} MB; beside it the manifest, "
        f"{plan['manifest_bytes_per_million_documents'] / 1e3:.0f} KB per million documents"
    )
