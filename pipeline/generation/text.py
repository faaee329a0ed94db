"""From a prompt to text, sentence by sentence, with the tokenizer in the folder of a sentence-level model."""

import logging
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch

import segmenters
from pipeline.config import Config, GenerateConfig
from pipeline.errors import ModelError
from pipeline.fetched import local_model
from pipeline.generation.generate import generate
from pipeline.generation.single_query import use_single_query
from pipeline.generation.weights import prepare_weights
from pipeline.models.device import device_for, device_name
from pipeline.models.saved import saved_model
from pipeline.models.sentence_vae import SentenceVaeConfig
from pipeline.models.sllm import Sllm
from pipeline.models.tokenizer_agreement import check_own_tokenizer, tokenizer_beside
from pipeline.tokenization.sentences import encode_documents
from pipeline.tokenization.tokenizer import Tokenizer

log = logging.getLogger("sllm")


@dataclass(frozen=True)
class Generated:
    """What one more sentence adds to the text."""

    text: str
    tokens: int


def continued(config: Config, may_use_gpu: bool) -> Iterator[str | Generated]:
    """The text that `config.models.sllm` generates after the prompt; first, when it is about to begin, the name of its
    device."""
    path = local_model(str(config.models.sllm), config.stream.cache)
    model, tokenizer = saved_model(path, Sllm, "sllm"), Tokenizer.load(path)
    device = device_for(may_use_gpu)
    torch.nn.Module.to(model, device)
    prepare_weights(model, config.generate.weights)
    if config.generate.weights != "fp32" and device.type == "cpu":
        use_single_query(model.trunk)
    encoded = encode_prompt(model.vae.config, tokenizer, config.generate.prompt)
    yield device_name(device)
    yield from generate_text(model, tokenizer, encoded, config.generate)


def check_generates(path: str) -> None:
    """Raise `ModelError` where a folder holds no SLLM, or its tokenizer is missing or a different one. Reads no
    weights."""
    model = saved_model(path, Sllm, "sllm", read_weights=False)
    tokenizer, missing = tokenizer_beside(path)
    if tokenizer is None:
        raise ModelError(f"models.sllm={path} cannot generate text: {missing}")
    check_own_tokenizer(path, model.vae.config, tokenizer)


def generate_text(
    model: Sllm, tokenizer: Tokenizer, prompt: list[list[int]], config: GenerateConfig
) -> Iterator[Generated]:
    """The text after a prompt of `encode_prompt`, sentence by sentence."""
    # A character may span several tokens, so all ids are decoded together.
    ids = [token for sentence in prompt for token in sentence]
    shown = len(tokenizer.decode(ids))
    for sentence in generate(model, prompt, config):
        ids += sentence.token_ids
        text = tokenizer.decode(ids)
        yield Generated(text[shown:], len(sentence.token_ids))
        shown = len(text)


def encode_prompt(vae: SentenceVaeConfig, tokenizer: Tokenizer, prompt: str) -> list[list[int]]:
    """Token ids of the prompt's sentences, cut by the segmenter of the model's training data."""
    if not prompt:
        return []
    fingerprint: dict[str, Any] = vae.segmenter or {}
    segmenter = segmenters.load(fingerprint["name"], **fingerprint["options"])
    if segmenter.fingerprint() != fingerprint:
        log.warning(f"warning: {fingerprint['name']} has other weights than when the model was trained")
    ((ids, lengths),) = encode_documents([prompt], segmenter, tokenizer, vae.max_sentence_tokens)
    ends = lengths.cumsum()
    return [ids[end - length : end].tolist() for end, length in zip(ends, lengths, strict=True)]
