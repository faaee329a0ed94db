"""The console command `sllm`: one verb a job, and a few to look at what they made.

Everything heavy is imported inside the command that needs it, so that `--help` is quick.
"""

import contextlib
import dataclasses
import errno
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

from jobs import cli_look
from jobs.bench import cli as bench_cli
from jobs.runner.arguments import ConfigPath, Overrides, config_and_overrides, loaded, with_paths
from jobs.runner.utf8_mode import ensure_utf8
from pipeline.config import Config
from pipeline.config.paths import PATH, is_url, resolved_path
from pipeline.errors import ConfigError, CorpusError, ModelError, ShardError, SllmError
from pipeline.lineage import JobRecord
from pipeline.redaction import redacted
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
            command(*arguments, **with_paths(command, options))
        except KeyboardInterrupt:
            _complain("interrupted; what is finished stays, and the same command goes on from there")
            raise typer.Exit(INTERRUPTED) from None
        except Exception as error:
            ours = _mendable(error)
            if ours is None:
                shown = traceback.format_exc()
                if redacted(shown) == shown:
                    raise
                print(redacted(shown), file=sys.stderr)
                raise typer.Exit(FAILED) from None
            if os.environ.get("SLLM_DEBUG", "") not in ("", "0"):
                print(redacted(traceback.format_exc()), file=sys.stderr)
            _complain(" ".join(redacted(str(ours)).split()))
            raise typer.Exit(BAD_INPUT if isinstance(ours, _BAD_INPUT_ERRORS) else FAILED) from None

    return answering


def _mendable(error: BaseException | None) -> BaseException | None:
    """The error of ours that this one is, or that it was caused by."""
    while error is not None:
        in_task = getattr(error, "cause", None)  # Ray wraps what a task raised, with its traceback as message
        if isinstance(error, SllmError | SegmenterError) and in_task is None:
            return error
        if isinstance(error, OSError) and error.errno in _OF_THE_DISK:
            place = f" at {error.filename}" if error.filename is not None else ""
            return SllmError(
                f"{error.strerror}{place}: {_OF_THE_DISK[error.errno]}, then run the same command again"
            )
        error = in_task or error.__cause__
    return None


_OF_THE_DISK = {
    **dict.fromkeys((errno.ENOSPC, errno.EDQUOT, errno.EFBIG), "free some space, or name a place with more"),
    **dict.fromkeys((errno.EACCES, errno.EPERM, errno.EROFS), "allow it, or name another place"),
}
"""What a file system refuses, and what to do."""


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

    from pipeline.redaction import redacted_tree

    print(
        yaml.safe_dump(redacted_tree(config.model_dump(mode="json")), sort_keys=False, allow_unicode=True),
        end="",
    )


def _show_travelling() -> None:
    """What `--submit` would send of the working folder, as comments below the configuration."""
    from infra.submission import travelling_files

    files = travelling_files(Path.cwd())
    print(f"# {len(files)} files of {Path.cwd()} would travel, {sum(files.values()):,} bytes:")
    for name, size in files.items():
        print(f"# {size:>12,}  {name}")


def _job(verb: str, overrides: list[str], config_path: str | None, options: "_JobOptions") -> None:
    """What every job verb does once its arguments are known."""
    config = loaded(config_path, overrides)
    _check_output(verb, config)
    if options.dry_run:
        _show_config(config)
        if options.submit is not None:
            _show_travelling()
        return
    if options.submit is not None:
        from infra.submission import submit

        flags = [name for name, wanted in (("--force", options.force), ("--json", options.as_json)) if wanted]
        raise typer.Exit(submit(options.submit, verb, config_path, [*overrides, *flags], config))
    with _only_result_on_stdout(options.as_json) as show:
        module = importlib.import_module(f"jobs.{verb.replace('-', '_')}")
        record: JobRecord = module.run(config, force=options.force)
        show(dataclasses.asdict(record))


def _check_output(verb: str, config: Config) -> None:
    """Raise `ConfigError` for an output that is of no use, before anything is sent, read or made."""
    if config.output is None or not is_url(config.output):
        return
    if verb != "prepare":
        from jobs.runner.output_folder import not_a_folder

        raise not_a_folder(config.output)
    if config.output.startswith("memory://"):
        raise ConfigError(
            f"output={config.output} is gone when the command ends: name a folder, or another URL"
        )


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
    if path is not None and Path(resolved_path(path)).is_dir():
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
        PATH,
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


for _look in (cli_look.lineage, cli_look.inspect, cli_look.segment, cli_look.plan):
    app.command(rich_help_panel="Look")(_answering_errors(_look))

bench = typer.Typer(no_args_is_help=True, help="Measure ours and others' in one run.")
app.add_typer(bench, name="bench", rich_help_panel="Look")
for _bench in (bench_cli.prepare, bench_cli.stream, bench_cli.segmenters, bench_cli.train):
    bench.command()(_answering_errors(_bench))


def main() -> None:
    """Entry point of the console command."""
    ensure_utf8()
    # Imports make many objects and no garbage: looking for some costs a sixth of a start.
    gc.set_threshold(100_000, 20, 100)
    app()
