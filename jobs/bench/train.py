"""`sllm bench train`: speed of training steps, beside the machine's peak and the published reference's step."""

import dataclasses
import json
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from rich.table import Table

from jobs.bench.reference_step import Passage, ReferenceStep, passages_of
from jobs.runner.printable_console import PrintableConsole
from pipeline.config import Config, TrainConfig
from pipeline.evaluation.flops import Model, Workload, model_parts, training_flops
from pipeline.models.build import build_lm, build_sllm, build_vae, untrained
from pipeline.models.sllm import Sllm
from pipeline.models.token_lm import TokenLm
from pipeline.shards.reading import open_shards
from pipeline.stream.batches import IGNORED, Batch, SentenceBatch, TokenBatch
from pipeline.stream.order import Corpus, MicroBatch, Stream, StreamState
from pipeline.stream.windows import DocumentSource, Int64, SentenceWindows, TokenWindows
from pipeline.training.engine import PlainEngine

WARMUP_STEPS = 2
BOS, EOS = 1, 2


@dataclasses.dataclass(frozen=True)
class StepFigures:
    """One kind of training step."""

    model: str
    tokens_per_second: float
    """Document tokens."""
    flops_per_second: float
    """Model FLOPs, without padding and optimizer."""
    share_of_peak: float


def measure(config: Config, steps: int, reference: bool) -> dict[str, Any]:
    """All figures, as for `--json`; on a GPU if there is one."""
    torch.manual_seed(0)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    dtype = torch.bfloat16 if config.precision == "bf16" else torch.float32
    shards = open_shards(config.shard_folders[0], config.stream) if config.shard_folders else None
    fresh = untrained(config)
    vae, sllm = build_vae(fresh, shards), build_sllm(fresh, shards)
    documents = _documents(config, vae.config.vocab_size)
    peak = peak_flops(device, dtype)
    models: dict[str, tuple[Model, TrainConfig]] = {
        "lm": (build_lm(fresh, shards), config.lm.train),
        "vae": (vae, config.vae.train),
        "sllm": (sllm, config.sllm.train),
    }
    results = []
    for name, (module, train) in models.items():
        step = OurStep(config, module, train, documents)
        seconds, tokens, flops = _time(step, steps, device)
        results.append(StepFigures(name, tokens / seconds, flops / seconds, flops / seconds / peak))
    report: dict[str, Any] = {
        "device": torch.cuda.get_device_name() if device.type == "cuda" else "cpu",
        "threads": torch.get_num_threads(),
        "precision": config.precision,
        "torch": torch.__version__,
        "peak_flops_per_second": peak,
    }
    if reference:
        fewer = max(steps // 4, 1)
        seconds, tokens, _ = _time(TheirStep(config, sllm, documents, fewer), fewer, device)
        report["reference_tokens_per_second"] = tokens / seconds
        report["sllm_over_reference"] = results[-1].tokens_per_second / (tokens / seconds)
    return {**report, "models": [dataclasses.asdict(result) for result in results]}


def show(config: Config, steps: int, reference: bool, as_json: bool) -> None:
    """Measure, and print a table or JSON."""
    report = measure(config, steps, reference)
    if as_json:
        print(json.dumps(report, indent=2))
        return
    title = (
        f"{report['device']}, {report['threads']} threads, {report['precision']}: matrix products at "
        f"{report['peak_flops_per_second'] / 1e9:,.0f} GFLOP/s"
    )
    table = Table(title=title, title_justify="left")
    for column in ("step", "tokens/s", "GFLOP/s", "of peak"):
        table.add_column(column, justify="left" if column == "step" else "right")
    for row in report["models"]:
        rate, share = row["flops_per_second"] / 1e9, row["share_of_peak"]
        table.add_row(row["model"], f"{row['tokens_per_second']:,.0f}", f"{rate:,.1f}", f"{share:.0%}")
    if reference:
        table.add_row("reference's sllm", f"{report['reference_tokens_per_second']:,.0f}", "", "")
    console = PrintableConsole()
    console.print(table)
    if reference:
        console.print(f"sllm over the reference: {report['sllm_over_reference']:.1f} x")


def peak_flops(device: torch.device, dtype: torch.dtype, seconds: float = 1.0) -> float:
    """Highest FLOP/s of square matrix products of several sizes, with torch's number of threads."""
    best = 0.0
    for size in (512, 1024, 2048) if device.type == "cpu" else (4096, 8192):
        a, b = (torch.randn(size, size, device=device).to(dtype) for _ in range(2))
        a @ b
        end = time.perf_counter() + seconds / 3
        while time.perf_counter() < end:
            elapsed = _elapsed(lambda: a @ b, device)  # noqa: B023
            best = max(best, 2 * size**3 / elapsed)
    return best


class OurStep:
    """The step of `pipeline.training.loop`, without Ray and DeepSpeed."""

    def __init__(self, config: Config, module: Model, train: TrainConfig, documents: DocumentSource) -> None:
        self.engine = PlainEngine(module, train, config.precision)
        self.train, self.parts = train, model_parts(module)
        size = config.lm.context_tokens if isinstance(module, TokenLm) else config.sllm.context_sentences
        kind = TokenWindows if isinstance(module, TokenLm) else SentenceWindows
        corpus = Corpus.of(kind(documents, size, BOS, EOS))
        stream = Stream([corpus], train.micro_batch_tokens, seed=0)
        self.plans = (plan for plan, _ in stream.steps(StreamState(), train.micro_batches_per_step))

    def __call__(self) -> tuple[int, float]:
        """Make a step, and return its document tokens and model FLOPs."""
        plan = next(self.plans)
        tokens, flops = sum(micro_batch.tokens for micro_batch in plan), 0.0
        for micro_batch in plan:
            batch = micro_batch.batch()
            flops += training_flops(self.parts, _work(batch))
            sums = self.engine.forward(batch.to(self.engine.device))
            self.engine.backward(sums["objective"] / tokens)
        self.engine.step(self.train.learning_rate)
        return tokens, flops


class TheirStep:
    """The reference's step on the same windows, padded before the time is measured."""

    def __init__(self, config: Config, model: Sllm, documents: DocumentSource, steps: int) -> None:
        train = config.sllm.train
        ours = OurStep(config, model, train, documents)
        self.engine, self.train = PlainEngine(ReferenceStep(model), train, config.precision), train
        plans = [next(ours.plans) for _ in range(WARMUP_STEPS + steps)]
        self.prepared = iter([[self._passages(micro) for micro in plan] for plan in plans])

    def __call__(self) -> tuple[int, float]:
        """Make a step, and return the document tokens that it keeps, and no FLOPs."""
        step = next(self.prepared)
        total = sum(tokens for _, tokens in step)
        for passages, _ in step:
            device = self.engine.device
            half = self.engine.half
            with torch.autocast(device.type, half, enabled=half is not None):
                loss = self.engine.module([(t.to(device), n.to(device)) for t, n in passages])
            self.engine.backward(loss / total)
        self.engine.step(self.train.learning_rate)
        return total, 0.0

    @staticmethod
    def _passages(micro_batch: MicroBatch) -> tuple[list[Passage], int]:
        batch = micro_batch.batch()
        assert isinstance(batch, SentenceBatch)
        return passages_of(batch)


def _time(
    step: Callable[[], tuple[int, float]], steps: int, device: torch.device
) -> tuple[float, int, float]:
    """Seconds, tokens and FLOPs of `steps` steps, after `WARMUP_STEPS`."""
    for _ in range(WARMUP_STEPS):
        step()
    made: list[tuple[int, float]] = []
    seconds = _elapsed(lambda: made.extend(step() for _ in range(steps)), device)
    return seconds, sum(tokens for tokens, _ in made), sum(flops for _, flops in made)


def _elapsed(run: Callable[[], object], device: torch.device) -> float:
    """Wall-clock seconds; with one thread on the CPU the CPU time, so that other processes do not count."""
    alone = device.type == "cpu" and torch.get_num_threads() == 1
    clock = time.process_time if alone else time.perf_counter
    if device.type == "cuda":
        torch.cuda.synchronize()
    start = clock()
    run()
    if device.type == "cuda":
        torch.cuda.synchronize()
    return clock() - start


def _work(batch: Batch) -> Workload:
    if isinstance(batch, TokenBatch):
        return Workload.of_tokens((batch.targets_DL != IGNORED).sum(1).numpy())
    assert isinstance(batch, SentenceBatch)
    windows = np.bincount(batch.window_S.numpy())
    context = windows - np.bincount(batch.decoded.window_S.numpy(), minlength=len(windows))
    return Workload.of_sentences(batch.sentences.lengths_S.numpy(), windows, context)


def _documents(config: Config, vocab_size: int) -> DocumentSource:
    if config.shard_folders:
        return open_shards(config.shard_folders[0]).documents("train")
    return RandomDocuments(vocab_size, config.prepare.max_sentence_tokens)


class RandomDocuments:
    """Random tokens in sentences of log-normal lengths (mean about 18, as English has) and documents of about 60."""

    def __init__(self, vocab_size: int, max_sentence_tokens: int, count: int = 2000) -> None:
        rng = np.random.default_rng(0)
        sentences_N = rng.geometric(1 / 60, count)
        lengths = rng.lognormal(2.67, 0.7, sentences_N.sum()).astype(np.int32)
        self.sentence_lengths = lengths.clip(1, max_sentence_tokens)
        self.sentence_starts_N1 = np.concatenate([[0], np.cumsum(sentences_N)])
        ends = np.concatenate([[0], np.cumsum(self.sentence_lengths, dtype=np.int64)])
        self.token_starts_N1 = ends[self.sentence_starts_N1]
        self.num_bytes_N = 3 * np.diff(self.token_starts_N1)
        self._tokens = rng.integers(3, vocab_size, ends[-1]).astype(np.int32)

    def tokens(self, start: int, end: int) -> NDArray[np.int32]:
        """Tokens `start` to `end`."""
        return self._tokens[start:end]

    def gather(self, start_W: Int64, end_W: Int64) -> NDArray[np.int32]:
        """Tokens of several spans, concatenated."""
        return np.concatenate([self._tokens[s:e] for s, e in zip(start_W, end_W, strict=True)])
