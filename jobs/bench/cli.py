"""`sllm bench`: the arguments of its verbs."""

import json
from typing import Annotated, Literal

import typer

from jobs.runner.arguments import ConfigPath, Overrides, config_and_overrides, loaded
from jobs.runner.completion import complete_config
from jobs.runner.console import answering_errors
from pipeline.config.paths import LOCAL_PATH
from pipeline.printable import printable
from segmenters import DEFAULT_SEGMENTER


def prepare(
    source: Annotated[
        str, typer.Argument(metavar="FILE", help="Text to prepare: JSONL, Parquet, ..."), LOCAL_PATH
    ],
    tokenizer: Annotated[str, typer.Argument(help="Folder or hub name of a fast tokenizer."), LOCAL_PATH],
    num_workers: Annotated[int, typer.Option("--num-workers", help="Workers of each contender.")] = 2,
    segmenter: Annotated[str, typer.Option("--segmenter", metavar="NAME", help="Segmenter of sllm.")] = (
        DEFAULT_SEGMENTER
    ),
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Text to tokens on disk: CPU time, wall time and memory of the process tree of each installed contender.

    \b
    Example:
      sllm bench prepare books.jsonl.gz runs/shards/tokenizer
    """
    from jobs.bench.prepare import bench_prepare as measure

    measure(source, tokenizer, num_workers, segmenter, as_json)


def stream(
    shards: Annotated[
        str, typer.Argument(metavar="SHARDS", help="Folder written by `sllm prepare`."), LOCAL_PATH
    ],
    micro_batch_tokens: Annotated[
        int, typer.Option("--tokens", help="Largest number of tokens per micro-batch.")
    ] = 16384,
    context_tokens: Annotated[
        int, typer.Option("--context-tokens", help="Window of the token-level model.")
    ] = 512,
    context_sentences: Annotated[
        int, typer.Option("--context-sentences", help="Window of the sentence-level model.")
    ] = 64,
    seconds: Annotated[float, typer.Option("--seconds", help="Seconds of measurement per contender.")] = 5.0,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Shards to packed batches: tokens/s in one process beside `datasets` and the memory map alone, and padding.

    \b
    Example:
      sllm bench stream runs/shards
    """
    from jobs.bench.stream import BatchSizes
    from jobs.bench.stream import bench_stream as measure

    measure(shards, BatchSizes(micro_batch_tokens, context_tokens, context_sentences, seconds), as_json)


def segmenters(
    data: Annotated[
        str, typer.Argument(metavar="DATA", help="Folder with segmentation/ and text/."), LOCAL_PATH
    ],
    names: Annotated[
        str | None,
        typer.Option("--segmenters", metavar="NAME,NAME,...", help="Segmenter of sllm; none: all."),
    ] = None,
    peers: Annotated[
        str | None,
        typer.Option("--peers", metavar="NAME,NAME,...", help="Segmenter of another package; none: all."),
    ] = None,
    gold: Annotated[
        list[str] | None,
        typer.Option("--gold", metavar="FILE", help="Another file with boundaries: JSONL or CoNLL-U."),
        LOCAL_PATH,
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON and not a Markdown table.")] = False,
) -> None:
    """F1 on texts with known boundaries and MB/s in one process, for sllm and other packages (the extra `bench`)."""
    from jobs.bench.segmenter_peers import PEERS
    from jobs.bench.segmenter_table import markdown
    from jobs.bench.segmenters import OURS, run

    ours = OURS if names is None else tuple(name for name in names.split(",") if name)
    others = tuple(PEERS) if peers is None else tuple(name for name in peers.split(",") if name)
    table = run(data, ours, others, gold or [])
    print(printable(json.dumps(table, indent=2) if as_json else markdown(table)))


def train(
    config: ConfigPath,
    overrides: Overrides = None,
    steps: Annotated[int, typer.Option("--steps", min=1, help="Measured steps of each model.")] = 8,
    reference: Annotated[
        bool, typer.Option("--reference/--no-reference", help="Also the published reference's step.")
    ] = True,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Tokens/s and FLOP/s of training steps, beside the machine's matrix-product peak and the reference's step.

    Documents are those of `shards`, else random ones. Models have the configuration's sizes and fresh weights.

    \b
    Examples:
      sllm bench train demo
      sllm bench train demo shards=runs/demo/shards precision=bf16 --json
    """
    from jobs.bench.train import show

    path, changes = config_and_overrides(config, overrides)
    show(loaded(path, changes), steps, reference, as_json)


def scale(
    part: Annotated[
        Literal["driver", "manifest", "scheduler", "stream"], typer.Argument(help="What is measured.")
    ],
    count: Annotated[
        int, typer.Option("--count", min=1, help="Work units; for stream documents of 250 tokens.")
    ] = 10_000,
    documents: Annotated[
        int, typer.Option("--documents", min=1, help="Documents with ids of their own per work unit.")
    ] = 1000,
    num_workers: Annotated[int, typer.Option("--num-workers", min=1, help="Workers of scheduler.")] = 2,
) -> None:
    """Time and memory per item of what one process does for a whole corpus, without text, as JSON.

    driver: the driver of `prepare` (plan, results, document ids, manifest). manifest: reading it, as each training
    worker does. scheduler: work units of no work on a Ray cluster of its own. stream: the plan of an epoch.

    \b
    Examples:
      sllm bench scale driver --count 100000
      sllm bench scale scheduler --count 1000000
    """
    from jobs.bench.scale import measure

    print(json.dumps(measure(part, count, documents, num_workers).as_dict(), indent=2))


def generate(
    configs: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[CONFIG ...] [KEY=VALUE ...]",
            help="Configurations of sentence-level models, and overrides for all of them; none: 125M, 350M and 1.3B of "
            "the paper.",
            autocompletion=complete_config,
        ),
    ] = None,
    weights: Annotated[
        Literal["fp32", "bf16", "int8"], typer.Option("--weights", help="Weights of all models.")
    ] = "bf16",
    batch: Annotated[str, typer.Option("--batch", help="Documents side by side.")] = "1,4,16",
    context: Annotated[str, typer.Option("--context", help="Tokens before what is generated.")] = "512,2048",
    tokens: Annotated[int, typer.Option("--tokens", min=1, help="Generated per document and round.")] = 64,
    rounds: Annotated[int, typer.Option("--rounds", min=1, help="Rounds, after one to warm up.")] = 3,
    plot: Annotated[
        str | None, typer.Option("--plot", metavar="FILE", help="PNG or SVG to write."), LOCAL_PATH
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Generation of sentence-level models beside their trunk as token-level model: tokens/s, latency, memory.

    Models have random weights and run on the CPU. Sentences have the lengths of those in `shards`, else of English.
    The token-level model runs in our loop and in that of Hugging Face, and again with as few layers as the sentence
    decoder.

    \b
    Examples:
      sllm bench generate paper/opt-125m-h1 paper/opt-125m-h2 --context 512,4096 --plot speed.svg
      sllm bench generate paper/opt-1.3b-h1 shards=runs/shards --batch 1 --weights int8 --json
    """
    from jobs.bench.generation.command import show

    show(
        configs or [],
        (batch, context),
        {"weights": weights, "tokens": tokens, "rounds": rounds},
        plot,
        as_json,
    )


def speculate(
    model: Annotated[
        str,
        typer.Argument(metavar="MODEL", help="Folder of a token-level or sentence-level model."),
        LOCAL_PATH,
    ],
    shards: Annotated[
        str,
        typer.Argument(metavar="SHARDS", help="Its dev documents begin the texts; same tokenizer."),
        LOCAL_PATH,
    ],
    layers: Annotated[
        str,
        typer.Option(
            "--layers", metavar="N,N,...", help="First layers of the model, or of its decoder, that draft."
        ),
    ] = "1",
    drafted: Annotated[
        int, typer.Option("--drafted", min=1, help="Largest number of tokens drafted for a pass.")
    ] = 4,
    tokens: Annotated[int, typer.Option("--tokens", min=1, help="Generated per document.")] = 64,
    documents: Annotated[int, typer.Option("--documents", min=1, help="Documents, one after the other.")] = 4,
    prompt: Annotated[
        int, typer.Option("--prompt", min=1, help="Tokens of each document that are given.")
    ] = 256,
    weights: Annotated[
        Literal["fp32", "bf16", "int8"], typer.Option("--weights", help="Weights of the model.")
    ] = "fp32",
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON and not a table.")] = False,
) -> None:
    """Lossless speculation with a trained model: tokens per pass and tokens/s with each way to draft, on the CPU.

    Drafts for a token-level model: prompt lookup, its first layers. For a sentence-level one: the first layers of its
    decoder draft the sentence, which the whole decoder verifies. Greedy, and sampled at temperature 1.

    \b
    Example:
      sllm bench speculate runs/demo/lm runs/demo/shards --layers 1,2
    """
    from jobs.bench.generation.command import numbers
    from jobs.bench.generation.speculate import markdown, measure

    counts = numbers("--layers", layers)
    results = measure(model, shards, counts, drafted, tokens, documents, prompt, weights)
    print(printable(json.dumps(results, indent=2) if as_json else markdown(results)))


command = typer.Typer(no_args_is_help=True, add_completion=False)
for _verb in (prepare, stream, segmenters, train, generate, speculate, scale):
    command.command()(answering_errors(_verb))
