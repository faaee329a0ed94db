"""`sllm generate`: text sentence by sentence, on the terminal as it comes."""

import hashlib
import json
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import segmenters
from infra.mlflow_run import ActiveRun
from jobs.runner.execution import run_job
from jobs.runner.output_folder import output_folder
from jobs.runner.training import model_artifact
from pipeline.config import Config
from pipeline.errors import ConfigError, ModelError
from pipeline.generation.generate import generate
from pipeline.lineage import JobRecord
from pipeline.models.saved import saved_model
from pipeline.models.sllm import Sllm
from pipeline.models.tokenizer_agreement import check_own_tokenizer, tokenizer_beside
from pipeline.tokenization.sentences import encode_documents
from pipeline.tokenization.tokenizer import Tokenizer

TEXT_FILE = "generated.json"


def run(config: Config, force: bool = False) -> JobRecord:
    """Write text with `config.models.sllm`; kept in `config.output`, by default a folder beside the model."""
    path = config.models.sllm
    if path is None:
        raise ConfigError("generate needs a model: `sllm generate FOLDER`, or models.sllm=FOLDER")
    given = config.output or f"{path.rstrip('/')}-generated/{_name(config)}"
    output = output_folder(given, "generate needs output=FOLDER")

    def check() -> None:
        model = saved_model(path, Sllm, "sllm", read_weights=False)
        tokenizer, missing = tokenizer_beside(path)
        if tokenizer is None:
            raise ModelError(f"models.sllm={path} cannot write text: {missing}")
        check_own_tokenizer(path, model.vae.config, tokenizer)

    streamed = False

    def body(run: ActiveRun) -> dict[str, float]:
        nonlocal streamed
        streamed = True
        return write(config, path, Path(run.output))

    record = run_job(
        "generate",
        config,
        sections=["generate"],
        inputs=[model_artifact(path)],
        output=output,
        output_kind="report",
        body=body,
        beside=["models"],
        check=check,
        force=force,
    )
    if not streamed:
        kept = json.loads(Path(output, TEXT_FILE).read_text())
        print(kept["prompt"] + "".join(kept["sentences"]))
    return record


def write(config: Config, path: str, output: Path) -> dict[str, float]:
    """Stream the text to stdout, keep it in a file -> tokens, sentences, tokens a second."""
    model = saved_model(path, Sllm, "sllm")
    tokenizer = Tokenizer.load(path)
    prompt = config.generate.prompt
    sentences = _encode_prompt(model, tokenizer, prompt)
    start = time.perf_counter()
    written, count = [], 0
    print(prompt, end="", flush=True)
    for text, tokens in _texts(model, tokenizer, sentences, config):
        print(text, end="", flush=True)
        written.append(text)
        count += tokens
    print(flush=True)
    seconds = time.perf_counter() - start
    kept = json.dumps({"prompt": prompt, "sentences": written}, ensure_ascii=False, indent=2)
    (output / TEXT_FILE).write_text(kept + "\n")
    return {"sentences": len(written), "tokens": count, "tokens_per_second": count / seconds}


def _texts(
    model: Sllm, tokenizer: Tokenizer, prompt: list[list[int]], config: Config
) -> Iterator[tuple[str, int]]:
    """The text that each sentence adds: a character may be spread over tokens, so all ids are decoded together."""
    ids = [token for sentence in prompt for token in sentence]
    shown = len(tokenizer.decode(ids))
    for sentence in generate(model, prompt, config.generate):
        ids += sentence.token_ids
        text = tokenizer.decode(ids)
        yield text[shown:], len(sentence.token_ids)
        shown = len(text)


def _encode_prompt(model: Sllm, tokenizer: Tokenizer, prompt: str) -> list[list[int]]:
    """Token ids of the prompt's sentences, cut by the segmenter that the model was trained with."""
    if not prompt:
        return []
    fingerprint: dict[str, Any] = model.vae.config.segmenter or {}
    segmenter = segmenters.load(fingerprint["name"], **fingerprint["options"])
    if segmenter.fingerprint() != fingerprint:
        print(
            f"warning: {fingerprint['name']} has other weights than when the model was trained",
            file=sys.stderr,
        )
    limit = model.vae.config.max_sentence_tokens
    ((ids, lengths),) = encode_documents([prompt], segmenter, tokenizer, limit)
    ends = lengths.cumsum()
    return [ids[end - length : end].tolist() for end, length in zip(ends, lengths, strict=True)]


def _name(config: Config) -> str:
    return hashlib.sha256(config.generate.model_dump_json().encode()).hexdigest()[:12]
