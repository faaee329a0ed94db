"""SLLM: a language model whose step is a sentence (arXiv 2408.00655, section 3.3).

encoder -> one latent a sentence -> trunk, causal over sentences -> at each place the latent of the *next* sentence,
which the decoder turns into tokens, and the decision to stop. The first sentence is predicted from a learned start
vector, so every token of a document has a probability, and a document's likelihood is exact. With
`context_attention_heads` the decoder's rows also look up the sentences before, each on its own
(`pipeline.models.context_attention`).

Shape suffixes: D windows of documents, N places, S sentences, R tokens and end marks, H hidden (of the latents).
"""

from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import AutoConfig, AutoModel, PreTrainedConfig, PreTrainedModel, initialization

from pipeline.config.models import SllmArchitecture
from pipeline.config.renamed import RENAMED, with_current_names
from pipeline.errors import ModelError
from pipeline.models.context_attention import INITIAL_SCALE, SentenceLookup
from pipeline.models.precision import at_least_fp32
from pipeline.models.sentence_vae import SentenceVae, SentenceVaeConfig
from pipeline.models.trunk import empty_trunk
from pipeline.stream.batches import SentenceBatch

Ablation = Literal["none", "zeroed", "shuffled", "oracle"]
"""What the decoder is given in place of the predicted latents, and of those that it looks up, to see whether it uses
them at all: nothing; those of another document; or, for the predicted ones, the encoder's latent of the true next
sentence (which a decoder trained apart from the trunk reads, and one trained with it from the start may not)."""


class SllmModelConfig(PreTrainedConfig, SllmArchitecture):
    """What an `Sllm` is built from, saved with it: the configurations of its SentenceVAE and trunk, and its own."""

    model_type = "sllm"
    sub_configs = {"vae_config": SentenceVaeConfig, "trunk_config": AutoConfig}  # noqa: RUF012

    vae_config: dict[str, Any] | PreTrainedConfig | None = None
    trunk_config: dict[str, Any] | PreTrainedConfig | None = None
    initializer_range: float = 0.02

    def __post_init__(self, **kwargs: Any) -> None:
        for name, value in with_current_names("sllm", kwargs).items():
            if name not in kwargs:  # a model saved under an older name of the option
                setattr(self, name, value)
        kwargs = {name: value for name, value in kwargs.items() if f"sllm.{name}" not in RENAMED}
        if self.vae_config is None:
            self.vae_config = SentenceVaeConfig()
        elif isinstance(self.vae_config, dict):
            self.vae_config = SentenceVaeConfig(**self.vae_config)
        if self.trunk_config is None:
            self.trunk_config = AutoConfig.for_model("llama", hidden_size=self.vae_config.hidden_size)
        elif isinstance(self.trunk_config, dict):
            options = dict(self.trunk_config)
            self.trunk_config = AutoConfig.for_model(options.pop("model_type"), **options)
        super().__post_init__(**kwargs)


class Sllm(PreTrainedModel):
    """SentenceVAE around a decoder-only trunk that takes `inputs_embeds`."""

    config: SllmModelConfig
    config_class = SllmModelConfig
    base_model_prefix = "sllm"
    supports_gradient_checkpointing = True
    main_input_name = "batch"
    _supports_sdpa = _supports_flash_attn = _supports_flex_attn = _supports_attention_backend = True

    def __init__(self, config: SllmModelConfig) -> None:
        super().__init__(config)
        vae_config, trunk_config = config.vae_config, config.trunk_config
        assert isinstance(vae_config, SentenceVaeConfig) and isinstance(trunk_config, PreTrainedConfig)
        positions = getattr(trunk_config, "max_position_embeddings", None)
        if positions is not None and positions <= config.context_sentences:
            raise ModelError(
                f"the trunk has {positions} positions, too few for sllm.context_sentences="
                f"{config.context_sentences} and the start vector: lower it to {positions - 1}"
            )
        self.vae = SentenceVae(vae_config)
        self.trunk = empty_trunk(trunk_config)
        latent_size, trunk_size = self.vae.config.hidden_size, trunk_config.hidden_size
        same = latent_size == trunk_size
        self.to_trunk = nn.Identity() if same else nn.Linear(latent_size, trunk_size)
        self.from_trunk = nn.Identity() if same else nn.Linear(trunk_size, latent_size)
        self.start_H = nn.Parameter(torch.empty(latent_size))
        self.stop_head = nn.Linear(trunk_size, 1)
        if config.context_attention_heads and latent_size % config.context_attention_heads:
            raise ModelError(
                f"sllm.context_attention_heads ({config.context_attention_heads}) must divide the latents' size, "
                f"{latent_size}"
            )
        self.lookup = SentenceLookup(config, latent_size) if config.context_attention_heads else None
        self.vae.requires_grad_(not config.freeze_vae)
        self.post_init()

    def _init_weights(self, module: nn.Module) -> None:
        super()._init_weights(module)
        if isinstance(module, Sllm):
            initialization.normal_(module.start_H)
        if isinstance(module, SentenceLookup):
            std = self.vae.config.hidden_size**-0.5
            initialization.normal_(module.query.weight, std=std)
            initialization.normal_(module.key.weight, std=std)
            initialization.zeros_(module.none_H)
            initialization.constant_(module.scale_H, INITIAL_SCALE)

    def score(
        self, batch: SentenceBatch, ablation: Ablation = "none", other: SentenceBatch | None = None
    ) -> tuple[Tensor, Tensor, Tensor]:
        """-> NLL (nats) of each token and end mark [R], of each stop decision [S], and token hits [R]: of the sentences
        that are decoded, `batch.decoded`.

        `other`, for the ablation "shuffled": a window of another document for each window of the batch, whose latents
        are taken (`pipeline.evaluation.ablations`).
        """
        return self._score(self.vae.encode(batch), batch, ablation, other)

    def forward(self, batch: SentenceBatch) -> dict[str, Tensor]:
        """Sums over the batch: `objective` (to minimise), `nll` (nats) of all tokens and marks, its parts."""
        with torch.set_grad_enabled(torch.is_grad_enabled() and not self.config.freeze_vae):
            posterior = self.vae.posterior(batch)
        nll_R, stop_nll_S, hit_R = self._score(self.vae.sample(posterior), batch, "none")
        predicted = torch.tensor(float(len(hit_R)), device=hit_R.device)
        if batch.decoded_S is not None:
            posterior, scored_S = posterior[batch.decoded_S], batch.decoded.scored_S
            scored_R = scored_S[batch.decoded.decoder_rows.sequence_T]
            nll_R, hit_R, stop_nll_S = nll_R * scored_R, hit_R & scored_R, stop_nll_S * scored_S
            predicted = scored_R.sum().float()
        penalty, sums = self.vae.kl(posterior)
        return {
            "objective": self.vae.focal(nll_R).sum() + stop_nll_S.sum() + penalty,
            "nll": nll_R.detach().sum() + stop_nll_S.detach().sum(),
            "stop_nll": stop_nll_S.detach().sum(),
            "correct": hit_R.sum().float(),
            "predicted": predicted,
            **sums,
        }

    def _score(
        self,
        latents_SH: Tensor,
        batch: SentenceBatch,
        ablation: Ablation,
        other: SentenceBatch | None = None,
    ) -> tuple[Tensor, Tensor, Tensor]:
        predicted_SH, stop_logits_S = self.predict(latents_SH, batch)
        known_SH = latents_SH
        if ablation == "zeroed":
            predicted_SH, known_SH = torch.zeros_like(predicted_SH), torch.zeros_like(latents_SH)
        elif ablation == "oracle":
            predicted_SH = latents_SH
        elif ablation == "shuffled":
            assert other is not None, "latents of another document are another batch's"
            taken_S, known_SH = batch.places_in(other), self.vae.encode(other)
            predicted_SH, known_SH = self.predict(known_SH, other)[0][taken_S], known_SH[taken_S]
        decoded = batch.decoded
        if batch.decoded_S is not None:
            stop_logits_S = stop_logits_S[batch.decoded_S]
        nll_R, hit_R = self.vae.row_nll(self._decode(predicted_SH, known_SH, batch), decoded)
        wide_S = at_least_fp32(stop_logits_S)
        stop_nll_S = F.binary_cross_entropy_with_logits(
            wide_S, decoded.stop_S.to(wide_S.dtype), reduction="none"
        )
        return nll_R, stop_nll_S, hit_R

    def decode_logits(self, latents_SH: Tensor, batch: SentenceBatch) -> Tensor:
        """Next-token logits of each row of the decoder [R, V], given the latents of the sentences and all true tokens
        before it."""
        predicted_SH, _ = self.predict(latents_SH, batch)
        return self.vae.head(self._decode(predicted_SH, latents_SH, batch))

    def _decode(self, predicted_SH: Tensor, known_SH: Tensor, batch: SentenceBatch) -> Tensor:
        """What the head takes of `batch.decoded` [R, H], given predicted and encoded latents of all sentences."""
        decoded = batch.decoded
        if batch.decoded_S is not None:
            predicted_SH = predicted_SH[batch.decoded_S]
        hidden_RH = self.vae.decode_hidden(predicted_SH, decoded, self.vae.decoder_pattern(decoded))
        if self.lookup is not None:
            hidden_RH = hidden_RH + self.lookup(hidden_RH, known_SH[batch.sentences_DN], decoded)
        return hidden_RH

    def predict(self, latents_SH: Tensor, batch: SentenceBatch) -> tuple[Tensor, Tensor]:
        """From the latents of all sentences -> predicted latent [S, H] and stop logit [S] of each.

        The prediction for a sentence sees the start vector and the sentences before it; the decision to stop
        after a sentence sees that sentence too. Windows are padded on the right, where the trunk does not look.
        """
        latents_DNH = latents_SH[batch.sentences_DN]
        start_D1H = self.start_H.expand(len(latents_DNH), 1, -1)
        inputs_DNH = self.to_trunk(torch.cat([start_D1H, latents_DNH], dim=1))
        hidden_DNH = self.trunk(inputs_embeds=inputs_DNH, use_cache=False).last_hidden_state
        before_SH = hidden_DNH[batch.window_S, batch.place_S]
        after_SH = hidden_DNH[batch.window_S, batch.place_S + 1]
        return self.from_trunk(before_SH), self.stop_head(after_SH)[:, 0]


AutoConfig.register(SllmModelConfig.model_type, SllmModelConfig, exist_ok=True)
AutoModel.register(SllmModelConfig, Sllm, exist_ok=True)
