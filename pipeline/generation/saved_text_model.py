"""A trained model in a folder as one function: texts in, texts out.

The sentence-level and the token-level model continue prompts; a SentenceVAE reconstructs sentences.
"""

from collections.abc import Sequence
from typing import Literal, Protocol

import torch
from transformers import PreTrainedConfig

from pipeline.config import GenerateConfig
from pipeline.errors import ModelError
from pipeline.generation.generate import generate_documents, pack
from pipeline.generation.sampling import Sampler
from pipeline.generation.sentence_decoder import SentenceDecoder
from pipeline.generation.text import check_generates, encode_prompt
from pipeline.generation.token_lm import continue_tokens
from pipeline.models.device import device_for
from pipeline.models.model_folder import read_config
from pipeline.models.saved import saved_model
from pipeline.models.sentence_vae import SentenceVae, SentenceVaeConfig
from pipeline.models.sllm import Sllm, SllmModelConfig
from pipeline.models.token_lm import TokenLm, learned_positions, load_causal_lm
from pipeline.models.tokenizer_agreement import tokenizer_beside
from pipeline.tokenization.tokenizer import Tokenizer

ModelKind = Literal["lm", "vae", "sllm"]


class TextModel(Protocol):
    """What all three kinds of models do."""

    def texts(self, given: Sequence[str], config: GenerateConfig) -> list[str]:
        """One text for each given one."""


def kind_of_model(config: PreTrainedConfig) -> ModelKind:
    """Which of the three models has this configuration."""
    if isinstance(config, SllmModelConfig):
        return "sllm"
    return "vae" if isinstance(config, SentenceVaeConfig) else "lm"


def load_text_model(path: str, may_use_gpu: bool = True) -> TextModel:
    """The model in a folder of this machine. No code in the folder is run.

    Raises `ModelError` where there is none, it is damaged, or its tokenizer is missing.
    """
    kind = kind_of_model(read_config(path))
    device = device_for(may_use_gpu)
    tokenizer, missing = tokenizer_beside(path)
    if tokenizer is None:
        raise ModelError(f"the model in {path} cannot read text: {missing}")
    if kind == "lm":
        return _Lm(TokenLm(load_causal_lm(path)).to(device), tokenizer)
    if kind == "vae":
        vae = saved_model(path, SentenceVae, "vae")
        torch.nn.Module.to(vae, device)
        return _Vae(vae, tokenizer)
    check_generates(path)
    sllm = saved_model(path, Sllm, "sllm")
    torch.nn.Module.to(sllm, device)
    return _Sllm(sllm, tokenizer)


class _Sllm:
    def __init__(self, model: Sllm, tokenizer: Tokenizer) -> None:
        self._model, self._tokenizer = model, tokenizer

    def texts(self, given: Sequence[str], config: GenerateConfig) -> list[str]:
        """What the model writes after each prompt; with a temperature it depends on the other prompts too."""
        if not given:
            return []
        prompts = [encode_prompt(self._model.vae.config, self._tokenizer, prompt) for prompt in given]
        ids = [[token for sentence in prompt for token in sentence] for prompt in prompts]
        shown = [len(self._tokenizer.decode(each)) for each in ids]
        for document, sentence in generate_documents(self._model, prompts, config):
            ids[document] += sentence.token_ids
        # A character may span several tokens, so all ids are decoded together.
        return [self._tokenizer.decode(each)[start:] for each, start in zip(ids, shown, strict=True)]


class _Lm:
    def __init__(self, model: TokenLm, tokenizer: Tokenizer) -> None:
        self._model, self._tokenizer = model, tokenizer
        self._context_tokens = learned_positions(model.model) or model.model.config.max_position_embeddings

    def texts(self, given: Sequence[str], config: GenerateConfig) -> list[str]:
        """What the model writes after each prompt, up to `max_tokens`."""
        sampler = Sampler(config.temperature, config.top_p, config.seed)
        return [self._continued(prompt, config.max_tokens, sampler) for prompt in given]

    def _continued(self, prompt: str, max_tokens: int, sampler: Sampler) -> str:
        tokenizer = self._tokenizer
        (encoded,) = tokenizer.encode([prompt])
        ids = encoded.ids.tolist()
        more = continue_tokens(
            self._model, ids, max_tokens, self._context_tokens, tokenizer.bos_id, tokenizer.eos_id, sampler
        )
        return tokenizer.decode([*ids, *more])[len(tokenizer.decode(ids)) :]


class _Vae:
    def __init__(self, model: SentenceVae, tokenizer: Tokenizer) -> None:
        self._model, self._tokenizer = model, tokenizer

    @torch.inference_mode()
    def texts(self, given: Sequence[str], config: GenerateConfig) -> list[str]:
        """Each text through the latents of its sentences and back; greedy unless a temperature is set."""
        vae = self._model.eval()
        prompts = [encode_prompt(vae.config, self._tokenizer, text) for text in given]
        going = [document for document, sentences in enumerate(prompts) if sentences]
        ids: list[list[int]] = [[] for _ in given]
        if not going:
            return ["" for _ in given]
        latents_SH = vae.encode(pack(vae.config, [prompts[document] for document in going], vae.device))
        latents = dict(zip(going, latents_SH.split([len(prompts[one]) for one in going]), strict=True))
        sampler = Sampler(config.temperature, config.top_p, config.seed)
        longest = vae.config.max_sentence_tokens
        decoder = SentenceDecoder(vae, len(given), longest)
        for sentence in range(max(map(len, prompts))):
            going = [document for document in going if sentence < len(prompts[document])]
            latents_DH = torch.stack([latents[document][sentence] for document in going])
            decoder.start(going, latents_DH, [longest] * len(going))
            for document, tokens in decoder.generate(sampler).items():
                ids[document] += tokens
        return [self._tokenizer.decode(each) for each in ids]
