"""Generation with a decoder that reads the document by itself (`sllm.state_attention_sentences`)."""

from collections.abc import Sequence

import torch
from torch import Tensor

from pipeline.generation.sentence_decoder import SentenceDecoder
from pipeline.generation.states_cache import FillingStates, StatesCache
from pipeline.models.blocks import LatentConditioning
from pipeline.models.sllm import Sllm
from pipeline.stream.batches import SentenceBatch


class StatesDecoder(SentenceDecoder):
    """As `SentenceDecoder`, with one key and value per layer of each of the last N sentences beside the window's."""

    def __init__(self, model: Sllm, batch: int, max_sentence_tokens: int) -> None:
        super().__init__(model.vae, batch, max_sentence_tokens)
        self._model = model
        config, weight = model.vae.config, model.vae.embedding.weight
        self._states = StatesCache(
            config, batch, config.decoder_window, weight, model.config.state_attention_sentences or 0
        )
        self.cache = self._states
        self._output_BH = torch.zeros_like(self.latents_BH)
        self._ended: dict[int, Tensor] = {}

    def read(self, batch: SentenceBatch, latents_SH: Tensor, documents: Sequence[int]) -> None:
        """Fill the cache with given sentences in one pass; window D of the batch is of `documents[D]`."""
        document_D = torch.tensor(documents, device=self.cached_B.device)
        filling = FillingStates(self._model.states_pattern(batch), batch.decoded, self._states, document_D)
        self.vae.decode_batch(None, batch, filling)
        self.cached_B[document_D] = filling.positions_D

    def latents(self, documents: Sequence[int]) -> Tensor:
        """Latents [S, H] of the sentences that ended last in these documents."""
        return self.vae.latent_norm(torch.stack([self._ended.pop(document) for document in documents]))

    def _hidden(self) -> Tensor:
        self._output_BH = self._decode(LatentConditioning.nothing(len(self.vae.decoder)))
        assert self.conditioning.output_SH is not None
        return self._output_BH + self.conditioning.output_SH

    def _end(self, document: int) -> None:
        self._ended[document] = self._output_BH[document]
        self._states.end(document, int(self.cached_B[document]) - 1)


def decoder_of(model: Sllm, batch: int, max_sentence_tokens: int) -> SentenceDecoder:
    """The decoder of a model that generates `batch` documents."""
    if model.reads_itself:
        return StatesDecoder(model, batch, max_sentence_tokens)
    return SentenceDecoder(model.vae, batch, max_sentence_tokens, model.context_attention)
