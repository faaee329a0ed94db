"""`sllm bench speculate`: tokens per pass and tokens/s of a trained model with lossless speculation."""

import itertools
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import torch

from jobs.bench.generation.contenders import clock
from pipeline.config import GenerateConfig, StreamConfig
from pipeline.errors import ModelError
from pipeline.generation.drafted_sentences import DraftedDecoder, first_decoder_layers
from pipeline.generation.generate import Prompt, generate_documents
from pipeline.generation.sampling import Sampler
from pipeline.generation.single_query import use_single_query
from pipeline.generation.speculation import Drafter, DraftModel, PromptLookup, first_layers, speculate
from pipeline.generation.token_lm import next_tokens
from pipeline.generation.weights import Weights, prepare_weights
from pipeline.models.model_folder import check_folder, read_config
from pipeline.models.saved import saved_model
from pipeline.models.sllm import Sllm, SllmModelConfig
from pipeline.models.token_lm import TokenLm, load_causal_lm
from pipeline.shards.documents import Documents
from pipeline.shards.reading import open_shards

Run = Callable[[Prompt, Sampler, int], tuple[int, int]]
"""Continue a prompt by at least so many tokens -> tokens, passes of the whole model or, in a sentence-level one, of the
deep decoder."""


@dataclass(frozen=True)
class Speculated:
    """One way to draft, at one temperature."""

    drafts: str
    temperature: float
    tokens_per_pass: float
    tokens_per_second: float
    over_without: float
    """Of tokens/s without drafts."""


def measure(
    model: str,
    shards: str,
    layers: Sequence[int],
    drafted: int,
    tokens: int,
    documents: int,
    prompt_tokens: int,
    weights: Weights,
) -> list[dict[str, Any]]:
    """All figures, as for `--json`: means over the first documents of the dev split that are long enough, else of the
    training split. Raises `ModelError` where none is."""
    check_folder(model)
    opened = open_shards(shards, StreamConfig())
    prompts = _prompts(opened.documents("dev"), documents, prompt_tokens)
    prompts = prompts or _prompts(opened.documents("train"), documents, prompt_tokens)
    if not prompts:
        raise ModelError(f"{shards} has no document of {prompt_tokens + 1} tokens: lower --prompt")
    sentence_level = isinstance(read_config(model), SllmModelConfig)
    runs = (_sentence_level if sentence_level else _token_level)(model, layers, drafted, weights)
    results: list[Speculated] = []
    for temperature in (0.0, 1.0):
        without = 0.0
        for name, run in runs.items():
            sampler, made, passes = Sampler(temperature), 0, 0
            run(prompts[0], sampler, 2)
            start = clock()
            for prompt in prompts:
                more, of_them = run(prompt, sampler, tokens)
                made, passes = made + more, passes + of_them
            speed = made / (clock() - start)
            without = without or speed
            results.append(Speculated(name, temperature, made / passes, speed, speed / without))
    return [asdict(one) for one in results]


def markdown(results: Sequence[dict[str, Any]]) -> str:
    """A table, one row per way to draft and temperature."""
    lines = ["| drafts | temperature | tokens per pass | tokens/s | over none |", "|---|---:|---:|---:|---:|"]
    lines += [
        f"| {one['drafts']} | {one['temperature']:g} | {one['tokens_per_pass']:.2f} "
        f"| {one['tokens_per_second']:,.1f} | {one['over_without']:.2f} |"
        for one in results
    ]
    return "\n".join(lines)


def _prompts(source: Documents, documents: int, tokens: int) -> list[Prompt]:
    """The first sentences of documents, of about so many tokens."""
    found: list[Prompt] = []
    for index in range(source.num_documents):
        first, end = source.sentence_starts_N1[index : index + 2]
        start, sentences = int(source.token_starts_N1[index]), []
        for length in source.sentence_lengths[first:end].tolist():
            sentences.append(source.tokens(start, start + length).tolist())
            start += length
            if sum(map(len, sentences)) >= tokens:
                found.append(sentences)
                break
        if len(found) == documents:
            break
    return found


def _token_level(path: str, layers: Sequence[int], drafted: int, weights: Weights) -> dict[str, Run]:
    model = TokenLm(load_causal_lm(path)).eval().requires_grad_(False)
    config = model.model.config
    smaller = {count: first_layers(model, count) for count in layers if count < config.num_hidden_layers}
    prepare_weights(model, weights)
    use_single_query(model.model)
    shared = dict(model.named_modules())
    for small in smaller.values():  # the same converted layers
        for name, module in list(small.named_modules()):
            parent, _, own = name.rpartition(".")
            if isinstance(module, torch.nn.Linear) and type(shared[name]) is not torch.nn.Linear:
                small.get_submodule(parent)._modules[own] = shared[name]
        prepare_weights(small, weights)
        use_single_query(small.model)
    context, never = min(2048, config.max_position_embeddings), [config.bos_token_id, config.eos_token_id]
    never = [one for one in never if isinstance(one, int)]

    def without(prompt: Prompt, sampler: Sampler, tokens: int) -> tuple[int, int]:
        ids = list(itertools.chain.from_iterable(prompt))[-context:]
        with torch.inference_mode():
            steps = next_tokens(model, torch.tensor([ids]), context, never, sampler)
            return sum(1 for _ in itertools.islice(steps, tokens)), tokens

    def with_drafts(drafter: Callable[[], Drafter]) -> Run:
        def run(prompt: Prompt, sampler: Sampler, tokens: int) -> tuple[int, int]:
            ids = list(itertools.chain.from_iterable(prompt))[-context:]
            made, passes = 0, 0
            for found in speculate(model, ids, context, never, sampler, drafter(), drafted):
                made, passes = made + len(found), passes + 1
                if made >= tokens:
                    break
            return made, passes

        return run

    runs = {"none": without, "prompt lookup": with_drafts(PromptLookup)}
    for count, small in smaller.items():
        runs[f"first {count} of {config.num_hidden_layers} layers"] = with_drafts(
            lambda small=small: DraftModel(small, context, never)  # type: ignore[misc]
        )
    return runs


def _sentence_level(path: str, layers: Sequence[int], drafted: int, weights: Weights) -> dict[str, Run]:
    model = saved_model(path, Sllm, "sllm").eval().requires_grad_(False)
    depth, longest = len(model.vae.decoder), model.vae.config.max_sentence_tokens
    if weights != "fp32":
        prepare_weights(model, weights)
    smaller = {count: first_decoder_layers(model.vae, count) for count in layers if count < depth}

    def with_drafts(shallow: int | None) -> Run:
        def run(prompt: Prompt, sampler: Sampler, tokens: int) -> tuple[int, int]:
            config = GenerateConfig(max_tokens=tokens, max_sentences=tokens)
            decoder = None
            if shallow is not None:
                decoder = DraftedDecoder(
                    model.vae, smaller[shallow], longest, model.context_attention, drafted
                )
            steps = generate_documents(model, [prompt], config, False, sampler, decoder=decoder)
            lengths = [len(sentence.token_ids) for _, sentence in steps]
            return sum(lengths), sum(lengths) + len(lengths) if decoder is None else decoder.passes

        return run

    runs = {"none": with_drafts(None)}
    for count in smaller:
        runs[f"first {count} of {depth} decoder layers"] = with_drafts(count)
    return runs
