"""What `sllm bench generate` measures: all contenders of a size in turns, and the figures from formulas beside them."""

import gc
import itertools
import os
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
import psutil
import torch
from numpy.typing import NDArray

from jobs.bench.generation.contenders import (
    Contender,
    HuggingFace,
    OwnLoop,
    SentenceLevel,
    Timing,
    clock,
    random_model,
    sllm,
    token_lm,
)
from pipeline.config import Config
from pipeline.evaluation.flops import context_bytes_per_token, num_parameters
from pipeline.evaluation.generation_reads import memory_bandwidth, reads_per_token
from pipeline.generation.weights import Weights
from pipeline.models.build import untrained
from pipeline.models.sllm import Sllm
from pipeline.models.token_lm import TokenLm
from pipeline.shards.reading import open_shards

BYTES = {"fp32": 4, "bf16": 2, "int8": 1}
DRAFTED = 4
"""Tokens drafted for a token-level model, of which a pass that verifies them is measured."""


@dataclass(frozen=True)
class Options:
    """What is measured."""

    weights: Weights = "bf16"
    batches: tuple[int, ...] = (1, 4, 16)
    contexts: tuple[int, ...] = (512, 2048)
    tokens: int = 64
    """Generated in each document and round."""
    rounds: int = 3
    """After one that is not counted."""
    prefill_up_to: int = 512
    """Tokens of the longest context that a token-level model really reads."""
    hugging_face: bool = True


@dataclass
class Row:
    """One way to generate, at one batch and context."""

    size: str
    model: str
    kind: str
    batch: int
    context: int
    tokens_per_second: float
    """Of text, all documents together; of the fastest round."""
    over_token_level: float
    """Over the faster of the two loops of the trunk as token-level model."""
    share_of_bound: float
    """Of the speed at which memory bandwidth would be the only limit."""
    bound_over_token_level: float
    prefill_seconds: float | None
    first_token_seconds: float | None
    first_sentence_seconds: float | None
    parameters: int
    context_bytes_per_token: float
    """By formula."""
    measured_context_bytes_per_token: float | None
    growth_bytes: int
    """Largest growth of the process's memory during generation: caches, activations and what is allocated and freed."""
    rounds: list[float] = field(default_factory=list)
    """Tokens/s of each round."""


@dataclass
class _Entrant:
    name: str
    kind: str
    contender: Contender
    shape: TokenLm | Sllm
    """On the meta device."""


def measure(configs: dict[str, Config], options: Options) -> dict[str, Any]:
    """All figures, as for `--json`; `configs` by name. Models with the same trunk are measured in turns."""
    torch.manual_seed(0)
    configs = {name: untrained(config) for name, config in configs.items()}
    lengths_N = sentence_lengths(next(iter(configs.values())))
    bandwidth = memory_bandwidth(clock)
    rows: list[Row] = []
    verification: dict[str, dict[str, float]] = {}
    sizes: dict[str, dict[str, Config]] = {}
    for name, config in configs.items():
        sizes.setdefault(repr(config.trunk), {})[name] = config
    for same_trunk in sizes.values():
        size = _size(next(iter(same_trunk.values())))
        entrants = _entrants(same_trunk, lengths_N, options)
        for batch, context in itertools.product(options.batches, options.contexts):
            rows += _compare(size, entrants, batch, context, options, lengths_N.mean(), bandwidth)
        loop = entrants[0].contender
        assert isinstance(loop, OwnLoop)
        verification[size] = {
            str(context): loop.verification(context, DRAFTED, options.rounds) for context in options.contexts
        }
        del entrants, loop
        gc.collect()
    return {
        "device": "cpu",
        "seconds": "CPU" if torch.get_num_threads() == 1 else "wall",
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
        "load": os.getloadavg()[0],
        "bandwidth_bytes_per_second": bandwidth,
        "tokens_per_sentence": float(lengths_N.mean()),
        "options": asdict(options),
        "drafted": DRAFTED,
        "verification_over_one_token": verification,
        "break_even_context_tokens": _break_even(rows, options.weights),
        "rows": [asdict(row) for row in rows],
    }


def sentence_lengths(config: Config) -> NDArray[np.int64]:
    """Tokens of each sentence [N] in the order of the corpus: of `shards`, else log-normal with a mean of about 18."""
    if config.shard_folders:
        documents = open_shards(config.shard_folders[0], config.stream).documents("train")
        return np.asarray(documents.sentence_lengths[:100_000], np.int64)
    rng = np.random.default_rng(0)
    drawn = rng.lognormal(2.67, 0.7, 10_000).astype(np.int64)
    return drawn.clip(1, config.prepare.max_sentence_tokens)


def _entrants(configs: dict[str, Config], lengths_N: NDArray[np.int64], options: Options) -> list[_Entrant]:
    first = next(iter(configs.values()))

    def lengths() -> Iterator[int]:
        return itertools.cycle(lengths_N.tolist())

    def shape(build: Callable[[], Any]) -> Any:
        with torch.device("meta"):
            return build()

    def loop(build: Callable[[], TokenLm]) -> OwnLoop:
        model = random_model(build, options.weights)
        return OwnLoop(model, float(lengths_N.mean()), options.prefill_up_to)

    longest = max(options.contexts) + 2 * options.tokens + 64
    first, *others = (_with_room(config, longest, lengths_N.mean()) for config in configs.values())
    own = loop(token_lm(first))
    entrants = [_Entrant("token-level, our loop", "token-level", own, shape(token_lm(first)))]
    if options.hugging_face:
        entrants.append(
            _Entrant("token-level, Hugging Face", "token-level", HuggingFace(own.model), entrants[0].shape)
        )
    for depth in sorted({config.vae.num_layers for config in (first, *others)}):
        build = token_lm(first, depth)
        entrants.append(_Entrant(f"token-level, {depth} layer(s)", "shallow", loop(build), shape(build)))
    for name, config in zip(configs, (first, *others), strict=True):
        model = random_model(sllm(config), options.weights)
        entrants.append(_Entrant(name, "sentence-level", SentenceLevel(model, lengths), shape(sllm(config))))
    return entrants


def _size(config: Config) -> str:
    shape = config.trunk.config
    if config.trunk.path is not None:
        return f"trunk {config.trunk.path}"
    return f"{shape['model_type']}, {shape['num_hidden_layers']} layers of {shape['hidden_size']}"


def _with_room(config: Config, tokens: int, tokens_per_sentence: float) -> Config:
    """The same sizes with positions for this context, in both kinds of models."""
    sentences = int(1.5 * tokens / tokens_per_sentence) + 8
    given = config.trunk.config.get("max_position_embeddings", 0)
    positions = max(tokens, sentences + 1, config.lm.context_tokens, given)
    trunk = config.trunk.model_copy(
        update={"path": None, "config": {**config.trunk.config, "max_position_embeddings": positions}}
    )
    return config.model_copy(
        update={"trunk": trunk, "sllm": config.sllm.model_copy(update={"context_sentences": sentences})}
    )


def _compare(
    size: str,
    entrants: Sequence[_Entrant],
    batch: int,
    context: int,
    options: Options,
    tokens_per_sentence: float,
    bandwidth: float,
) -> list[Row]:
    timings: list[list[Timing]] = [[] for _ in entrants]
    growth = [0] * len(entrants)
    for round_ in range(options.rounds + 1):
        for index, entrant in enumerate(entrants):
            with _Growth() as grown:
                timing = entrant.contender.run(batch, context, options.tokens)
            growth[index] = max(growth[index], grown.bytes)
            if round_:
                timings[index].append(timing)
    speeds = [max(each.tokens / each.seconds for each in own) for own in timings]
    values = 4 if options.weights == "fp32" else 2
    bounds = []
    for entrant in entrants:
        reads = reads_per_token(entrant.shape, tokens_per_sentence, BYTES[options.weights], values)
        bounds.append(bandwidth / reads.total(context + options.tokens / 2, batch))
    base = max(speed for speed, each in zip(speeds, entrants, strict=True) if each.kind == "token-level")
    rows = []
    for index, entrant in enumerate(entrants):
        fastest = max(timings[index], key=lambda each: each.tokens / each.seconds)
        times = {
            name: min(
                (value for each in timings[index] if (value := getattr(each, name)) is not None), default=None
            )
            for name in ("prefill", "first_token", "first_sentence")
        }
        rows.append(
            Row(
                size=size,
                model=entrant.name,
                kind=entrant.kind,
                batch=batch,
                context=context,
                tokens_per_second=speeds[index],
                over_token_level=speeds[index] / base,
                share_of_bound=speeds[index] / bounds[index],
                bound_over_token_level=bounds[index] / bounds[0],
                prefill_seconds=times["prefill"],
                first_token_seconds=times["first_token"],
                first_sentence_seconds=times["first_sentence"],
                parameters=num_parameters(entrant.shape),
                context_bytes_per_token=context_bytes_per_token(entrant.shape, tokens_per_sentence, values),
                measured_context_bytes_per_token=fastest.context_bytes / context
                if fastest.context_bytes
                else None,
                growth_bytes=growth[index],
                rounds=[each.tokens / each.seconds for each in timings[index]],
            )
        )
    return rows


def _break_even(rows: Sequence[Row], weights: Weights) -> dict[str, float]:
    """Context in tokens, of all documents together, from which a sentence-level model takes less memory, weights
    counted, than the trunk as token-level model."""
    found = {}
    for row in rows:
        base = next(each for each in rows if each.size == row.size and each.kind == "token-level")
        saved = base.context_bytes_per_token - row.context_bytes_per_token
        if row.kind == "sentence-level" and saved > 0:
            more = BYTES[weights] * (row.parameters - base.parameters)
            found[row.model] = max(more / saved, 0.0)
    return found


class _Growth:
    """Largest growth of this process's resident memory while the context is open, seen every 5 ms."""

    def __enter__(self) -> "_Growth":
        self._process, self._ended = psutil.Process(), threading.Event()
        self._start = self._process.memory_info().rss
        self.bytes = 0
        self._thread = threading.Thread(target=self._watch)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._thread.join()

    def _watch(self) -> None:
        while not self._ended.is_set():
            self.bytes = max(self.bytes, self._process.memory_info().rss - self._start)
            time.sleep(0.005)
