"""SLLM: a language model that predicts one sentence per step (arXiv 2408.00655, section 3.3).

Encoder -> one latent per sentence -> trunk, causal over sentences -> the predicted latent of each sentence, which the
decoder turns into tokens, and the decision to stop after it. The first sentence is predicted from a learned start
vector. So each token of a document has a probability, and the likelihood of a document is exact. With
`context_attention_heads` the decoder's positions also attend to the latents of earlier sentences
(`pipeline.models.attention.context`). With `state_attention_sentences` the decoder reads the document by itself
(`pipeline.models.attention.states`): the latent of a sentence is its output at the sentence's last position, and the
predicted latent is added to its output at the positions of the next one.
"""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import AutoConfig, AutoModel, PreTrainedConfig, PreTrainedModel, initialization

from pipeline.config.models import SllmArchitecture
from pipeline.config.renamed import is_old, with_current_names
from pipeline.errors import ModelError
from pipeline.models.attention.context import INITIAL_SCALE, ContextAttention, EarlierInWindow
from pipeline.models.attention.states import WindowAndStates
from pipeline.models.precision import at_least_fp32
from pipeline.models.sentence_codes import SentenceCodes
from pipeline.models.sentence_vae import Posterior, SentenceVae, SentenceVaeConfig
from pipeline.models.trunk import empty_trunk
from pipeline.stream.batches import SentenceBatch


class SllmModelConfig(PreTrainedConfig, SllmArchitecture):
    """The configuration of an `Sllm`, saved with it: those of its SentenceVAE and trunk, and its own options."""

    model_type = "sllm"
    sub_configs = {"vae_config": SentenceVaeConfig, "trunk_config": AutoConfig}  # noqa: RUF012

    vae_config: dict[str, Any] | PreTrainedConfig | None = None
    trunk_config: dict[str, Any] | PreTrainedConfig | None = None
    initializer_range: float = 0.02

    def __post_init__(self, **kwargs: Any) -> None:
        for name, value in with_current_names("sllm", kwargs).items():
            if name not in kwargs:  # a model saved under an older name of the option
                setattr(self, name, value)
        kwargs = {name: value for name, value in kwargs.items() if not is_old(f"sllm.{name}")}
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


@dataclass(frozen=True)
class EncodedSentences:
    """What is known of the sentences of a batch before the trunk."""

    latents_SH: Tensor
    hidden_RH: Tensor | None = None
    """With `state_attention_sentences` the decoder's output without a predicted latent; its last positions have the
    latents."""


class Sllm(PreTrainedModel):
    """SentenceVAE around a decoder-only trunk that takes `inputs_embeds`. Raises `ModelError` where they do not fit."""

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
        self.lookup = ContextAttention(config, latent_size) if config.context_attention_heads else None
        self.reads_itself = config.state_attention_sentences is not None
        """Whether the latents are the decoder's own states, with no sentence encoder."""
        if self.reads_itself:
            _check_reads_by_itself(config, vae_config)
        self.codes = SentenceCodes(config, trunk_size, latent_size) if config.code_books else None
        if config.freeze_vae:
            self.vae.requires_grad_(False)
        self.post_init()

    def _init_weights(self, module: nn.Module) -> None:
        super()._init_weights(module)
        if isinstance(module, Sllm):
            initialization.normal_(module.start_H)
        if isinstance(module, ContextAttention):
            std = self.vae.config.hidden_size**-0.5
            initialization.normal_(module.query.weight, std=std)
            initialization.normal_(module.key.weight, std=std)
            initialization.zeros_(module.none_H)
            initialization.constant_(module.scale_H, INITIAL_SCALE)
        if isinstance(module, SentenceCodes):
            initialization.normal_(module.centres_BEK)

    @property
    def context_attention(self) -> ContextAttention | None:
        """Saved under its first name, `lookup`."""
        return self.lookup

    def score(self, batch: SentenceBatch) -> tuple[Tensor, Tensor, Tensor]:
        """-> NLL (nats) of each target [R] and each stop decision [S], and whether each target was the likeliest [R].

        All of the sentences of `batch.decoded`.
        """
        encoded = self.encode(batch)
        return self.nll(*self.predict(encoded.latents_SH, batch), encoded, batch)

    @property
    def decoder_reach(self) -> int | None:
        """Number of positions before a sentence that the decoder computes for it; none: all of its window."""
        return None if self.reads_itself else self.vae.decoder_reach

    def encode(self, batch: SentenceBatch) -> EncodedSentences:
        """The latents of the sentences of a batch: samples in training with a KL term, else means."""
        posterior, hidden_RH = self._posterior(batch)
        return EncodedSentences(self.vae.sample(posterior), hidden_RH)

    def _posterior(self, batch: SentenceBatch) -> tuple[Posterior, Tensor | None]:
        if not self.reads_itself:
            return self.vae.posterior(batch), None
        pattern = self.states_pattern(batch)
        hidden_RH = self.vae.decode_batch(None, batch, pattern)
        return Posterior(self.vae.latent_norm(hidden_RH[pattern.last_S]), None), hidden_RH

    def states_pattern(self, batch: SentenceBatch) -> WindowAndStates:
        """With `state_attention_sentences`: which keys the positions of `batch.decoded` attend to."""
        layout = batch.decoded.positions
        assert layout.num_sequences == len(batch.window_S), "the decoder reads all sentences"
        return WindowAndStates(
            batch.window_S[layout.sequence_T],
            self.vae.config.decoder_window,
            layout.sequence_T,
            layout.starts_S + layout.lengths_S - 1,
            self.config.state_attention_sentences or 0,
        )

    def forward(self, batch: SentenceBatch) -> dict[str, Tensor]:
        """Sums over the batch, each a scalar: `objective` (to minimise), `nll` (nats) of all targets and stop
        decisions, its parts."""
        with torch.set_grad_enabled(torch.is_grad_enabled() and not self.config.freeze_vae):
            posterior, hidden_RH = self._posterior(batch)
        encoded, decoded = EncodedSentences(self.vae.sample(posterior), hidden_RH), batch.decoded
        before_SH, after_SH = self.trunk_output(encoded.latents_SH, batch)
        predicted_SH, stop_logits_S = self.predicted_latents(before_SH), self.stop_head(after_SH)[:, 0]
        nll_R, stop_nll_S, hit_R = self.nll(predicted_SH, stop_logits_S, encoded, batch)
        in_loss_R = decoded.in_loss_S[decoded.positions.sequence_T]
        nll_R, hit_R, stop_nll_S = nll_R * in_loss_R, hit_R & in_loss_R, stop_nll_S * decoded.in_loss_S
        penalty, sums = self.vae.kl(posterior[decoded.sentence_S])
        if self.codes is not None:
            learned_S = decoded.sentence_S[decoded.in_loss_S]
            codes = self.codes(before_SH[learned_S], posterior.mean_SH[learned_S])
            penalty, sums = penalty + codes.loss, {**sums, "code_nll": codes.nll}
        return {
            "objective": self.vae.focal(nll_R).sum() + stop_nll_S.sum() + penalty,
            "nll": nll_R.detach().sum() + stop_nll_S.detach().sum(),
            "stop_nll": stop_nll_S.detach().sum(),
            "correct": hit_R.sum().float(),
            "predicted": in_loss_R.sum().float(),
            **sums,
        }

    def nll(
        self, predicted_SH: Tensor, stop_logits_S: Tensor, encoded: EncodedSentences, batch: SentenceBatch
    ) -> tuple[Tensor, Tensor, Tensor]:
        """As `score`, from the predicted latents and stop logits of all sentences, and the sentences themselves."""
        decoded = batch.decoded
        nll_R, hit_R = self.vae.output_nll(self.decode(predicted_SH, encoded, batch), batch)
        wide_S = at_least_fp32(stop_logits_S[decoded.sentence_S])
        stop_nll_S = F.binary_cross_entropy_with_logits(
            wide_S, decoded.stop_S.to(wide_S.dtype), reduction="none"
        )
        return nll_R, stop_nll_S, hit_R

    def decode(self, predicted_SH: Tensor, encoded: EncodedSentences, batch: SentenceBatch) -> Tensor:
        """Input of the LM head [R, H] for `batch.decoded`, given the predicted latents of all sentences and the
        sentences themselves."""
        if encoded.hidden_RH is not None:
            assert self.vae.output_latent is not None
            return (
                encoded.hidden_RH + self.vae.output_latent(predicted_SH)[batch.decoded.positions.sequence_T]
            )
        hidden_RH = self.vae.decode_batch(predicted_SH, batch)
        if self.context_attention is not None:
            context_DMH = encoded.latents_SH[batch.sentences_DM]
            earlier = EarlierInWindow(self.context_attention.key(context_DMH), context_DMH, batch.decoded)
            hidden_RH = self.context_attention(hidden_RH, earlier)
        return hidden_RH

    def predict(self, latents_SH: Tensor, batch: SentenceBatch) -> tuple[Tensor, Tensor]:
        """The predicted latent [S, H] and stop logit [S] of each sentence, from the latents of all.

        The prediction of a sentence depends on the start vector and the sentences before it; the decision to stop after
        a sentence depends on that sentence too. Windows are padded on the right, where a causal trunk does not attend.
        """
        before_SH, after_SH = self.trunk_output(latents_SH, batch)
        return self.predicted_latents(before_SH), self.stop_head(after_SH)[:, 0]

    def trunk_output(self, latents_SH: Tensor, batch: SentenceBatch) -> tuple[Tensor, Tensor]:
        """The trunk's output before and after each sentence, two tensors [S, H]."""
        latents_DMH = latents_SH[batch.sentences_DM]
        start_D1H = self.start_H.expand(len(latents_DMH), 1, -1)
        inputs_DMH = self.to_trunk(torch.cat([start_D1H, latents_DMH], dim=1))
        hidden_DMH = self.trunk(inputs_embeds=inputs_DMH, use_cache=False).last_hidden_state
        before_SH = hidden_DMH[batch.window_S, batch.index_S]
        after_SH = hidden_DMH[batch.window_S, batch.index_S + 1]
        return before_SH, after_SH

    def predicted_latents(self, hidden_SH: Tensor) -> Tensor:
        """The trunk's output before a sentence -> the predicted latent [S, H]; zeros without `trunk_prediction`."""
        latents_SH = self.from_trunk(hidden_SH)
        if self.codes is not None:
            latents_SH = latents_SH + self.codes(hidden_SH).expected_SH
        return latents_SH if self.config.trunk_prediction else torch.zeros_like(latents_SH)


def _check_reads_by_itself(config: SllmModelConfig, vae: SentenceVaeConfig) -> None:
    """Raise `ModelError` for options that do not go with `state_attention_sentences`."""
    needed = {
        "vae.decoder_window above 0": vae.decoder_window > 0,
        "vae.conditioning=none": vae.conditioning == "none",
        "vae.encoder_layers=0": vae.encoder_layers == 0,
        "vae.kl_weight=0": vae.kl_weight == 0,
        "sllm.context_attention_heads=0": config.context_attention_heads == 0,
    }
    for option, is_so in needed.items():
        if not is_so:
            raise ModelError(
                f"sllm.state_attention_sentences={config.state_attention_sentences} needs {option}"
            )


AutoConfig.register(SllmModelConfig.model_type, SllmModelConfig, exist_ok=True)
AutoModel.register(SllmModelConfig, Sllm, exist_ok=True)
