"""`sllm generate`: text sentence by sentence, on the terminal as it comes."""

import hashlib
import json
import os
import sys
import time

from infra.model_workers import on_one_worker
from infra.registry.models import with_model_folders
from infra.storage import Folder
from infra.tracking.run import ActiveRun
from jobs.runner.console import say
from jobs.runner.execution import run_job
from jobs.runner.output.folder import output_folder
from jobs.runner.progress import WorkProgress
from jobs.runner.training import model_artifact
from pipeline.config import Config
from pipeline.config.paths import is_mlflow_model
from pipeline.errors import ConfigError
from pipeline.fetched import local_model
from pipeline.generation.text import check_generates, continued
from pipeline.lineage import JobRecord
from pipeline.models.device import CPU, NO_CUDA
from pipeline.printable import printable

TEXT_FILE = "generated.json"


def run(config: Config, force: bool = False) -> JobRecord:
    """Generate text with `config.models.sllm` and save it in `config.output`, by default a folder beside the model.

    Raises `ConfigError` where no model is named.
    """
    path = config.models.sllm
    if path is None:
        raise ConfigError("generate needs a model: `sllm generate FOLDER`, or models.sllm=FOLDER")
    beside = path.partition(":/")[2].replace("/", "-") if is_mlflow_model(path) else path.rstrip("/")
    output = output_folder(
        config.output or f"{beside}-generated/{_name(config)}", "generate needs output=FOLDER"
    )
    config = with_model_folders(config)
    path = str(config.models.sllm)
    streamed = False

    def body(run: ActiveRun) -> dict[str, float]:
        nonlocal streamed
        streamed = True
        return stream(config, run.output)

    record = run_job(
        "generate",
        config,
        sections=["generate"],
        inputs=[model_artifact(path)],
        output=output,
        output_kind="report",
        body=body,
        beside=["models", "launcher", "ray"],
        check=lambda: check_generates(local_model(path, config.stream.cache)),
        force=force,
    )
    if not streamed:
        kept = json.loads(Folder(output).read(TEXT_FILE) or "{}")
        print(printable(kept["prompt"] + "".join(kept["sentences"])))
    return record


def stream(config: Config, output: str) -> dict[str, float]:
    """Print the text during generation, and write it to a file -> tokens, sentences, tokens/s."""
    prompt = config.generate.prompt
    sentences, tokens = [], 0
    start = time.perf_counter()
    with WorkProgress("generate", "tokens", is_drawn=_is_stdout_apart()) as progress:
        advance = progress.begin("generate", config.generate.max_tokens)
        for item in on_one_worker(config, continued):
            if isinstance(item, str):  # the model is loaded
                if config.ray.use_gpu and item == CPU:
                    say(f"generate: {NO_CUDA}")
                start = time.perf_counter()
                print(printable(prompt), end="", flush=True)
                continue
            print(printable(item.text), end="", flush=True)
            sentences.append(item.text)
            tokens += item.tokens
            advance(item.tokens)
    print(flush=True)
    seconds = time.perf_counter() - start
    say(f"generate: {len(sentences)} sentences, {tokens:,} tokens, {tokens / seconds:,.0f} tokens/s")
    kept = json.dumps({"prompt": prompt, "sentences": sentences}, ensure_ascii=False, indent=2)
    Folder(output).write(TEXT_FILE, f"{kept}\n".encode())
    return {"sentences": len(sentences), "tokens": tokens, "tokens_per_second": tokens / seconds}


def _is_stdout_apart() -> bool:
    """Whether stdout goes elsewhere than stderr. If not, the text itself shows the progress, and lines would cut it."""
    try:
        return not os.path.samestat(os.fstat(sys.stdout.fileno()), os.fstat(sys.stderr.fileno()))
    except (OSError, ValueError):  # replaced by something without a file
        return False


def _name(config: Config) -> str:
    # Without the weights where they are the default: so folders keep their names.
    generate = config.generate
    kept = generate.model_dump_json(exclude={"weights"} if generate.weights == "fp32" else None)
    return hashlib.sha256(kept.encode()).hexdigest()[:12]
