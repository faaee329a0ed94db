"""The console command `sllm`: one verb a job, and a few to look at what they made.

Everything heavy is imported inside the command that needs it, so that `--help` is quick.
"""

import contextlib
import dataclasses
import functools
import gc
import importlib
import json
import os
import sys
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.text import Text

from jobs.arguments import ConfigPath, Overrides, config_and_overrides
from jobs.cli_cost import bench_train, plan
from pipeline.config import Config, load_config
from pipeline.errors import ConfigError, CorpusError, ModelError, ShardError, SllmError
from pipeline.lineage import JobRecord
from segmenters.contract import SegmenterError

# One progress bar at a time is enough, and it is ours. Ray workers inherit this.
os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")

app = typer.Typer(
    name="sllm",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
    context_settings={"help_option_names": ["-h", "--help"]},
)

BAD_INPUT, FAILED, INTERRUPTED = 2, 1, 130
_BAD_INPUT_ERRORS = (ConfigError, CorpusError, ShardError, ModelError, SegmenterError)

JOBS = {
    "prepare": "Read a corpus, cut it into sentences, tokenize it, write shards.",
    "train-segmenter": "Train the learned segmenter on gold sentence boundaries.",
    "train-lm": "Train the token-level language model: the baseline, and the trunk of the SLLM.",
    "train-vae": "Train the SentenceVAE: a sentence to one vector and back.",
    "train-sllm": "Train the language model that predicts the next sentence.",
    "evaluate": "Score models on the dev split: bits per byte, perplexity, reconstruction, ablations.",
    "generate": "Write text, sentence by sentence, as it comes.",
    "compare": "Train designs on the same tokens; one table and plot of bits per byte, speed, FLOPs, memory.",
    "run": "Run the whole path: prepare, train the three models, evaluate, generate.",
}
"""Verb and help; the job itself is `jobs.<verb>.run(config, force)`."""

_EXAMPLES = {
    "prepare": """sllm prepare jobs/presets/prepare.yaml data.inputs='["books/*.jsonl.gz"]' output=runs/shards
sllm prepare jobs/presets/prepare.yaml segmenter.name=spacy_v1 tokenizer.path=gpt2 --dry-run""",
    "train-segmenter": """sllm train-segmenter jobs/presets/train-segmenter.yaml output=runs/segmenter""",
    "train-lm": """sllm train-lm CONFIG shards=runs/shards output=runs/lm lm.train.steps=500""",
    "train-vae": """sllm train-vae CONFIG shards=runs/shards output=runs/vae vae.num_layers=2""",
    "train-sllm": """sllm train-sllm CONFIG models.lm=runs/lm models.vae=runs/vae output=runs/sllm
sllm train-sllm CONFIG deepspeed.zero_stage=3 --submit https://head:8265""",
    "evaluate": """sllm evaluate CONFIG models.lm=runs/lm models.sllm=runs/sllm shards=runs/shards --json""",
    "generate": """sllm generate runs/demo/sllm --prompt "The function returns a list."
sllm generate runs/demo/sllm generate.temperature=0.8 generate.top_p=0.95 generate.max_sentences=5""",
    "compare": """sllm compare jobs/presets/compare.yaml shards=runs/compare/shards output=runs/compare/comparison""",
    "run": """sllm run jobs/presets/demo.yaml
sllm run jobs/presets/demo.yaml lm.train.steps=50 vae.train.steps=50 sllm.train.steps=50 output=runs/quick""",
}


@app.callback()
def about(
    debug: Annotated[
        bool, typer.Option("--debug", envvar="SLLM_DEBUG", help="Show the traceback of an error.")
    ] = False,
) -> None:
    """Text corpora to sentence shards on Ray; language models that predict the next sentence, on DeepSpeed;
    the lineage of all of it in MLflow.

    [bold]sllm run jobs/presets/demo.yaml[/bold] runs the whole path on this machine.
    """
    if debug:
        os.environ["SLLM_DEBUG"] = "1"


def _answering_errors(command: Callable[..., None]) -> Callable[..., None]:
    """Show an error that a user can mend as one line; exit 2 for bad input, 1 for a job that failed."""

    @functools.wraps(command)
    def answering(*arguments: Any, **options: Any) -> None:
        try:
            command(*arguments, **options)
        except KeyboardInterrupt:
            _complain("interrupted; what is finished stays, and the same command goes on from there")
            raise typer.Exit(INTERRUPTED) from None
        except Exception as error:
            ours = _mendable(error)
            if ours is None:
                raise
            if os.environ.get("SLLM_DEBUG", "") not in ("", "0"):
                traceback.print_exc()
            _complain(" ".join(str(ours).split()))
            raise typer.Exit(BAD_INPUT if isinstance(ours, _BAD_INPUT_ERRORS) else FAILED) from None

    return answering


def _mendable(error: BaseException | None) -> BaseException | None:
    """The error of ours that this one is, or that it was caused by."""
    while error is not None:
        in_task = getattr(error, "cause", None)  # Ray wraps what a task raised, with its traceback as message
        if isinstance(error, SllmError | SegmenterError) and in_task is None:
            return error
        error = in_task or error.__cause__
    return None


def _complain(message: str) -> None:
    Console(stderr=True, soft_wrap=True).print(Text.assemble(("error: ", "bold red"), (message, "red")))


@contextlib.contextmanager
def _only_result_on_stdout(wanted: bool) -> Iterator[Callable[[Any], None]]:
    """Yield a function that prints JSON on stdout; where `wanted`, all other output goes to stderr,
    that of other processes and of C code too."""
    if not wanted:
        yield lambda _tree: None
        return
    sys.stdout.flush()
    stdout = os.dup(1)
    os.dup2(2, 1)
    results: list[Any] = []
    try:
        with contextlib.redirect_stdout(sys.stderr):
            yield results.append
    finally:
        os.dup2(stdout, 1)
        os.close(stdout)
    for tree in results:
        print(json.dumps(tree, indent=2, ensure_ascii=False))


def _show_config(config: Config) -> None:
    import yaml

    from infra.parameters import masked

    print(yaml.safe_dump(masked(config.model_dump(mode="json")), sort_keys=False, allow_unicode=True), end="")


def _job(verb: str, overrides: list[str], config_path: str | None, options: "_JobOptions") -> None:
    """What every job verb does once its arguments are known."""
    config = load_config(config_path, overrides)
    if options.dry_run:
        _show_config(config)
        return
    if options.submit is not None:
        from infra.submission import submit

        flags = [name for name, wanted in (("--force", options.force), ("--json", options.as_json)) if wanted]
        raise typer.Exit(submit(options.submit, verb, config_path, [*overrides, *flags], config))
    with _only_result_on_stdout(options.as_json) as show:
        module = importlib.import_module(f"jobs.{verb.replace('-', '_')}")
        record: JobRecord = module.run(config, force=options.force)
        show(dataclasses.asdict(record))


@dataclasses.dataclass(frozen=True)
class _JobOptions:
    dry_run: bool
    force: bool
    submit: str | None
    as_json: bool


DryRun = Annotated[bool, typer.Option("--dry-run", help="Print the whole resolved configuration and stop.")]
Force = Annotated[bool, typer.Option("--force", help="Replace what an earlier run wrote to the same output.")]
Submit = Annotated[
    str | None,
    typer.Option(
        "--submit", metavar="ADDRESS", help="Run as a Ray job on this cluster (its dashboard's URL)."
    ),
]
AsJson = Annotated[
    bool, typer.Option("--json", help="Print the job's record as JSON; all else goes to stderr.")
]


def _help(verb: str) -> str:
    examples = "\n".join(f"  {line}" for line in _EXAMPLES[verb].splitlines())
    return f"{JOBS[verb]}\n\n\b\nExamples:\n{examples}"


def _command(verb: str) -> Callable[..., None]:
    def command(
        config: ConfigPath,
        overrides: Overrides = None,
        dry_run: DryRun = False,
        force: Force = False,
        submit: Submit = None,
        as_json: AsJson = False,
    ) -> None:
        path, changes = config_and_overrides(config, overrides)
        _job(verb, changes, path, _JobOptions(dry_run, force, submit, as_json))

    return command


def _generate(
    config: Annotated[str, typer.Argument(metavar="MODEL|CONFIG", help="Folder of an SLLM, or a YAML file.")],
    overrides: Overrides = None,
    prompt: Annotated[str | None, typer.Option("--prompt", help="Text to go on from.")] = None,
    dry_run: DryRun = False,
    force: Force = False,
    submit: Submit = None,
    as_json: AsJson = False,
) -> None:
    """Write text from a model folder or a configuration."""
    path, changes = config_and_overrides(config, overrides)
    if path is not None and Path(path).is_dir():
        path, changes = None, [f"models.sllm={json.dumps(path, ensure_ascii=False)}", *changes]
    if prompt is not None:
        changes.append(f"generate.prompt={json.dumps(prompt, ensure_ascii=False)}")
    _job("generate", changes, path, _JobOptions(dry_run, force, submit, as_json))


for _verb in JOBS:
    _function = _generate if _verb == "generate" else _command(_verb)
    app.command(_verb, help=_help(_verb), rich_help_panel="Jobs")(_answering_errors(_function))


@app.command(rich_help_panel="Jobs")
@_answering_errors
def export(
    checkpoint: Annotated[
        str,
        typer.Argument(metavar="CHECKPOINT", help="A checkpoint, or a training job's output: its newest."),
    ],
    overrides: Overrides = None,
    force: Force = False,
    as_json: AsJson = False,
) -> None:
    """Write the model in a checkpoint as a plain Hugging Face folder.

    \b
    Example:
      sllm export runs/demo/sllm/checkpoints/step-000000200 output=runs/sllm-at-200
    """
    with _only_result_on_stdout(as_json) as show:
        from jobs.export import run

        show(dataclasses.asdict(run(checkpoint, overrides or [], force)))


@app.command(rich_help_panel="Look")
@_answering_errors
def lineage(
    path: Annotated[str, typer.Argument(help="A model, shards, a report, or a corpus file.")],
    tracking: Annotated[
        str | None, typer.Option("--tracking", metavar="URI", help="MLflow store, where job.json names none.")
    ] = None,
    forward: Annotated[
        bool, typer.Option("--forward", help="Show what was made from it, also where a job made it.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print the tree as JSON.")] = False,
) -> None:
    """Show what a result was made from, back to the corpus files; for a corpus file, what was made from it.

    \b
    Examples:
      sllm lineage runs/demo/sllm
      sllm lineage corpus/books.jsonl.gz --json
    """
    from jobs.lineage import show

    show(path, tracking, as_json, forward)


@app.command(rich_help_panel="Look")
@_answering_errors
def inspect(
    shards: Annotated[str, typer.Argument(help="Folder of shards.")],
    samples: Annotated[int, typer.Option("--samples", help="Documents to show with their sentences.")] = 2,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
    plot: Annotated[
        str | None, typer.Option("--plot", metavar="FILE", help="Draw the histograms: .png, .svg or .pdf.")
    ] = None,
    no_verify: Annotated[bool, typer.Option("--no-verify", help="Do not read every shard.")] = False,
) -> None:
    """Show what a folder of sentence shards holds and what it was made with, and check every checksum.

    \b
    Example:
      sllm inspect runs/demo/shards
    """
    from jobs.inspect import show

    show(shards, samples, as_json, plot, verify=not no_verify)


bench = typer.Typer(no_args_is_help=True, help="Measure ours and others' in one run.")
app.add_typer(bench, name="bench", rich_help_panel="Look")


@bench.command("prepare")
@_answering_errors
def bench_prepare(
    source: Annotated[str, typer.Argument(metavar="FILE", help="Text to prepare: JSONL, Parquet, ...")],
    tokenizer: Annotated[str, typer.Argument(help="Folder or hub name of a fast tokenizer.")],
    num_workers: Annotated[int, typer.Option("--num-workers", help="Workers of each contender.")] = 2,
    segmenter: Annotated[str, typer.Option("--segmenter", metavar="NAME", help="Ours cuts with it.")] = (
        "punctuation_v1"
    ),
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Text to tokens on disk: CPU, wall time and memory of the whole process tree, of all that are installed.

    \b
    Example:
      sllm bench prepare books.jsonl.gz runs/shards/tokenizer
    """
    from jobs.bench_prepare import bench_prepare as measure

    measure(source, tokenizer, num_workers, segmenter, as_json)


@bench.command("stream")
@_answering_errors
def bench_stream(
    shards: Annotated[str, typer.Argument(metavar="SHARDS", help="Folder written by `sllm prepare`.")],
    micro_batch_tokens: Annotated[
        int, typer.Option("--tokens", help="Tokens a micro-batch, at most.")
    ] = 16384,
    context_tokens: Annotated[int, typer.Option("--context-tokens", help="Of the token-level model.")] = 512,
    context_sentences: Annotated[
        int, typer.Option("--context-sentences", help="Of the sentence-level model.")
    ] = 64,
    seconds: Annotated[float, typer.Option("--seconds", help="To measure each contender for.")] = 5.0,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Shards to packed batches: tokens/s in one process beside `datasets` and the memory map alone, and padding.

    \b
    Example:
      sllm bench stream runs/shards
    """
    from jobs.bench_stream import Shape
    from jobs.bench_stream import bench_stream as measure

    measure(shards, Shape(micro_batch_tokens, context_tokens, context_sentences, seconds), as_json)


@app.command(rich_help_panel="Look")
@_answering_errors
def segment(
    source: Annotated[
        str | None, typer.Argument(metavar="IN", help="JSONL file with `id` and `text`.")
    ] = None,
    segmenter: Annotated[
        str, typer.Option("--segmenter", metavar="NAME", help="See --list.")
    ] = "punctuation_v1",
    option: Annotated[
        list[str] | None, typer.Option("--option", metavar="KEY=VALUE", help="An option of the segmenter.")
    ] = None,
    output: Annotated[
        str | None, typer.Option("--output", metavar="OUT", help="JSONL file with `id` and `ends`.")
    ] = None,
    list_all: Annotated[bool, typer.Option("--list", help="List the segmenters and stop.")] = False,
    compare: Annotated[
        str | None,
        typer.Option("--compare", metavar="NAME,NAME,...", help="Show the splits of IN side by side."),
    ] = None,
    html: Annotated[
        str | None, typer.Option("--html", metavar="PAGE", help="With --compare: write them as a page.")
    ] = None,
) -> None:
    """Cut documents into sentences: the character offsets of their ends, exclusive.

    \b
    Examples:
      sllm segment --list
      sllm segment --segmenter spacy_v1 --option pipeline=en_core_web_sm docs.jsonl.gz --output ends.jsonl
      sllm segment --compare punctuation_v1,learned_v1 README.md --html splits.html
    """
    import jobs.segment

    if list_all:
        jobs.segment.list_segmenters()
    elif compare is not None:
        if source is None:
            raise typer.BadParameter("--compare needs IN")
        from jobs.compare_segmenters import show_or_write

        show_or_write(compare.split(","), source, html)
    elif source is None or output is None:
        raise typer.BadParameter("needs IN and --output OUT, or --list")
    else:
        counts = jobs.segment.segment_file(segmenter, option or [], source, output)
        told = ", ".join(f"{count:,} {name}" for name, count in counts.items())
        print(f"{told} -> {output}", file=sys.stderr)


@bench.command("segmenters")
@_answering_errors
def bench_segmenters(
    data: Annotated[str, typer.Argument(metavar="DATA", help="Folder with segmentation/ and text/.")],
    names: Annotated[
        str | None, typer.Option("--segmenters", metavar="NAME,NAME,...", help="Ours; none: all of them.")
    ] = None,
    peers: Annotated[
        str | None, typer.Option("--peers", metavar="NAME,NAME,...", help="Others; none: all of them.")
    ] = None,
    gold: Annotated[
        list[str] | None,
        typer.Option("--gold", metavar="FILE", help="Another file with boundaries: JSONL or CoNLL-U."),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON and not a Markdown table.")] = False,
) -> None:
    """F1 on texts with known boundaries and MB/s in one process, ours and other packages' (`sllm[bench]`)."""
    from jobs.bench_peers import PEERS
    from jobs.bench_segmenters import OURS, markdown, run

    ours = OURS if names is None else tuple(name for name in names.split(",") if name)
    others = tuple(PEERS) if peers is None else tuple(name for name in peers.split(",") if name)
    table = run(data, ours, others, gold or [])
    print(json.dumps(table, indent=2) if as_json else markdown(table))


app.command("plan", rich_help_panel="Look")(_answering_errors(plan))
bench.command("train")(_answering_errors(bench_train))


def main() -> None:
    """Entry point of the console command."""
    # Imports make many objects and no garbage: looking for some costs a sixth of a start.
    gc.set_threshold(100_000, 20, 100)
    app()
