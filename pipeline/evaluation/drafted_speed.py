"""Speed of a single document with lossless speculation: the same text distribution, with cheap drafts.

A token-level model is drafted for by prompt lookup and by the smallest token-level model of the comparison, a sentence
decoder by its own first layer. Models with a memory of earlier chunks or states are generated without drafts.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from pipeline.evaluation.flops import num_parameters
from pipeline.evaluation.generation_speed import Generator, Speed, measure_speeds, sentence_generator
from pipeline.generation.drafted_sentences import DraftedDecoder, first_decoder_layers
from pipeline.generation.sampling import Sampler
from pipeline.generation.speculation import Drafter, DraftModel, PromptLookup, speculate
from pipeline.models.attention.chunks import ChunkAttentionLm
from pipeline.models.attention.states_lm import StatesLm
from pipeline.models.sllm import Sllm
from pipeline.models.token_lm import TokenLm

DRAFTED_TOKENS = 4
"""Largest number of tokens drafted for a pass."""


@dataclass(frozen=True)
class DraftedSpeed:
    """The fastest way to draft for a design."""

    drafts: str
    """What drafts."""
    tokens_per_second: float
    """Of a single document, without BOS and EOS."""


def drafted_speeds(
    models: Mapping[str, TokenLm | Sllm],
    context_tokens: Mapping[str, int],
    num_tokens: int,
    bos_eos: tuple[int, int],
    repeats: int,
) -> dict[str, DraftedSpeed]:
    """The fastest drafts of each design that has any, by its name; all take turns.

    `context_tokens`: of each token-level design. `num_tokens` tokens of a document are sampled at temperature 1.
    """
    generators: dict[tuple[str, str], Generator] = {}
    plain = {
        name: model
        for name, model in models.items()
        if isinstance(model, TokenLm) and not isinstance(model.model, ChunkAttentionLm | StatesLm)
    }
    smallest = min(plain, key=lambda name: num_parameters(plain[name]), default="")
    for name, model in models.items():
        if isinstance(model, Sllm):
            if len(model.vae.decoder) > 1 and not model.reads_itself:
                generators[name, "the decoder's first layer"] = _sentences(model, num_tokens)
        elif name in plain:
            context = context_tokens[name]
            generators[name, "prompt lookup"] = _tokens(model, None, context, num_tokens, bos_eos)
            if name != smallest:
                small = (plain[smallest], context_tokens[smallest])
                generators[name, smallest] = _tokens(model, small, context, num_tokens, bos_eos)
    names = {f"{name} {drafts}": (name, drafts) for name, drafts in generators}
    speeds: dict[str, tuple[Speed, ...]] = measure_speeds(
        {key: generators[pair] for key, pair in names.items()}, [1], repeats
    )
    found: dict[str, DraftedSpeed] = {}
    for key, (name, drafts) in names.items():
        speed = speeds[key][0].tokens_per_second
        if name not in found or found[name].tokens_per_second < speed:
            found[name] = DraftedSpeed(drafts, speed)
    return found


def _tokens(
    model: TokenLm,
    small: tuple[TokenLm, int] | None,
    context_tokens: int,
    num_tokens: int,
    bos_eos: tuple[int, int],
) -> Generator:
    def generate(batch: int, seed: int) -> int:
        assert batch == 1
        drafter: Drafter = PromptLookup() if small is None else DraftModel(*small, bos_eos)
        sampler, made = Sampler(1.0, seed=seed), 0
        passes = speculate(model, bos_eos[:1], context_tokens, bos_eos, sampler, drafter, DRAFTED_TOKENS)
        while made < num_tokens:
            made += len(next(passes))
        return made

    return generate


def _sentences(model: Sllm, num_tokens: int) -> Generator:
    shallow, longest = first_decoder_layers(model.vae, 1), model.vae.config.max_sentence_tokens

    def decoder() -> DraftedDecoder:
        return DraftedDecoder(model.vae, shallow, longest, model.context_attention, DRAFTED_TOKENS)

    return sentence_generator(model, num_tokens, decoder)
