"""SentenceVAE: one sentence to one vector and back (arXiv 2408.00655, section 3).

Encoder: token embedding + sinusoidal positions -> blocks -> sum over tokens -> norm. Decoder: the same
embedding + positions -> blocks of causal self-attention and attention to that vector -> vocabulary.

With `conditioning` "prefix" the latent is added only at the sentence's first position. With `output_latent_scale` it is
added before the LM head at each position. With `decoder_window` the decoder attends to the last positions of its
window, across sentences.

`SentenceVae.decode` is the only forward pass of the decoder: of packed sentences in training and evaluation, and of one
position per document, with a cache, in generation.
"""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import AutoConfig, AutoModel, PreTrainedConfig, PreTrainedModel, initialization

from pipeline.config.models import VaeArchitecture, VaeTraining
from pipeline.config.renamed import is_old, with_current_names
from pipeline.errors import ModelError
from pipeline.models.attention_patterns import AttentionPattern, Sentences, SlidingWindow, sum_sequences
from pipeline.models.blocks import (
    Block,
    Head,
    LatentConditioning,
    LatentPrefix,
    OutputLatent,
    Rotation,
    add_positions,
    new_norm,
)
from pipeline.models.cross_entropy import head_cross_entropy, sampled_cross_entropy
from pipeline.stream.batches import SentenceBatch


class SentenceVaeConfig(PreTrainedConfig, VaeTraining, VaeArchitecture):
    """The configuration of a `SentenceVae`, saved with it."""

    model_type = "sentence_vae"

    vocab_size: int = 8192
    hidden_size: int = 128
    initializer_range: float | None = None
    """Standard deviation of fresh weights; none: hidden_size ** -0.5. With a smaller value small models need many times
    the steps to use the latent."""
    bos_token_id: int = 1
    eos_token_id: int = 2
    max_sentence_tokens: int = 64
    tokenizer_digest: str = ""
    segmenter: dict[str, Any] | None = None

    def __post_init__(self, **kwargs: Any) -> None:
        for name, value in with_current_names("vae", kwargs).items():
            if name not in kwargs:  # a model saved under an older name of the option
                setattr(self, name, value)
        kwargs = {name: value for name, value in kwargs.items() if not is_old(f"vae.{name}")}
        if self.initializer_range is None:
            self.initializer_range = self.hidden_size**-0.5
        super().__post_init__(**kwargs)


@dataclass(frozen=True)
class Posterior:
    """The encoder's output for each sentence: a mean, and with a KL term the variance of a Gaussian."""

    mean_SH: Tensor
    log_variance_SH: Tensor | None

    def __getitem__(self, sentences: Tensor) -> "Posterior":
        """The posterior of these sentences."""
        log_variance_SH = None if self.log_variance_SH is None else self.log_variance_SH[sentences]
        return Posterior(self.mean_SH[sentences], log_variance_SH)


class SentenceVae(PreTrainedModel):
    """Sentence encoder and decoder around one latent vector. Raises `ModelError` for options that do not fit."""

    config: SentenceVaeConfig
    config_class = SentenceVaeConfig
    base_model_prefix = "vae"
    supports_gradient_checkpointing = True
    main_input_name = "tokens_T"
    _tied_weights_keys = {"head.weight": "embedding.weight"}  # noqa: RUF012

    def __init__(self, config: SentenceVaeConfig) -> None:
        super().__init__(config)
        hidden = config.hidden_size
        if hidden % config.num_heads or hidden % 2:
            raise ModelError(
                f"vae.hidden_size ({hidden}) must be even and a multiple of vae.num_heads ({config.num_heads})"
            )
        if config.block == "llama" and hidden // config.num_heads % 2:
            raise ModelError(
                f"vae.block=llama needs heads of an even size for its rotary positions: vae.hidden_size ({hidden}) "
                f"over vae.num_heads ({config.num_heads}) is {hidden // config.num_heads}"
            )
        if config.ffn_multiplier * hidden < 1:
            raise ModelError(
                f"vae.ffn_multiplier ({config.ffn_multiplier}) of vae.hidden_size ({hidden}) is no width"
            )
        if config.decoder_window and config.block == "paper":
            raise ModelError("vae.decoder_window needs rotary positions, which slide: set vae.block=llama")
        if config.conditioning == "none" and config.output_latent_scale == 0:
            raise ModelError("vae.conditioning=none adds the latent in no block: set vae.output_latent_scale")
        self.embedding = nn.Embedding(config.vocab_size, hidden)
        encoder_layers = config.num_layers if config.encoder_layers is None else config.encoder_layers
        self.encoder = nn.ModuleList(Block(config, layer) for layer in range(encoder_layers))
        self.latent_norm = new_norm(config)
        if config.kl_weight > 0:
            self.log_variance = nn.Linear(hidden, hidden)
        crosses = config.conditioning == "cross_attention"
        self.latent_prefix = LatentPrefix(config) if config.conditioning == "prefix" else None
        self.latent_head = OutputLatent(config) if config.output_latent_scale > 0 else None
        self.decoder = nn.ModuleList(Block(config, layer, crosses) for layer in range(config.num_layers))
        last_norm = config.norm_first or config.block == "llama"
        self.decoder_norm = new_norm(config) if last_norm else nn.Identity()
        self.head = Head(hidden, config.vocab_size, bias=False)
        for part in (self.embedding, self.head):
            part.requires_grad_(not config.freeze_embedding)
        self.post_init()

    def _init_weights(self, module: nn.Module) -> None:
        super()._init_weights(module)
        if isinstance(module, OutputLatent):
            initialization.constant_(module.scale_H, self.config.output_latent_scale)

    def get_input_embeddings(self) -> nn.Module:
        """The token embedding, shared by encoder and decoder."""
        return self.embedding

    def get_output_embeddings(self) -> nn.Module:
        """The decoder's head, tied to the token embedding."""
        return self.head

    def encode(self, batch: SentenceBatch) -> Tensor:
        """Latent of each sentence [S, H]: a sample in training with a KL term, else the mean."""
        return self.sample(self.posterior(batch))

    def token_nll(self, latents_SH: Tensor, batch: SentenceBatch) -> tuple[Tensor, Tensor]:
        """Negative log-likelihood (nats) of each target [R], and whether it was the likeliest [R].

        After `max_sentence_tokens` tokens EOS is certain and costs nothing. Raises `ModelError` for a longer sentence,
        which has probability 0.
        """
        return self.output_nll(self.decode_batch(latents_SH, batch), batch)

    def output_nll(self, hidden_RH: Tensor, batch: SentenceBatch) -> tuple[Tensor, Tensor]:
        """As `token_nll`, from the decoder's output."""
        decoded = batch.decoded
        check_longest(decoded.longest_sentence, self.config.max_sentence_tokens)
        if self.training and self.config.loss_vocabulary:
            found = sampled_cross_entropy(
                self.head, hidden_RH, decoded.targets_R, self.config.loss_vocabulary
            )
        else:
            found = head_cross_entropy(self.head, hidden_RH, decoded.targets_R)
        nll_R, is_likeliest_R = found
        is_certain_R = decoded.positions.positions_T == self.config.max_sentence_tokens
        return nll_R.masked_fill(is_certain_R, 0.0), is_likeliest_R | is_certain_R

    def decode_batch(
        self, latents_SH: Tensor | None, batch: SentenceBatch, pattern: AttentionPattern | None = None
    ) -> Tensor:
        """Input of the LM head [R, H] for `batch.decoded`, given the latents of all sentences, if any; no `pattern`:
        `decoder_pattern`."""
        decoded = batch.decoded
        conditioning = LatentConditioning.nothing(len(self.decoder))
        if latents_SH is not None:
            conditioning = self.condition(latents_SH[decoded.sentence_S])
        return self.decode(
            decoded.inputs_R,
            decoded.positions.positions_T,
            decoded.positions.sequence_T,
            conditioning,
            pattern or self.decoder_pattern(batch),
            decoded.longest_sentence + 1,
        )

    def decode(
        self,
        tokens_R: Tensor,
        positions_R: Tensor,
        sentence_R: Tensor,
        conditioning: LatentConditioning,
        pattern: AttentionPattern,
        num_positions: int,
    ) -> Tensor:
        """The decoder, from tokens to the input of the LM head [R, H].

        `tokens_R`: BOS or the previous token. `positions_R`: position in the sentence, 0 for BOS, below
        `num_positions`. `sentence_R`: index of the sentence in `conditioning`.
        """
        x_RH, rotation = self._with_positions(self.embedding(tokens_R), positions_R, pattern, num_positions)
        if conditioning.prefix_SH is not None:
            x_RH = x_RH + conditioning.prefix_SH[sentence_R] * (positions_R == 0)[:, None]
        for block, attended_SH in zip(self.decoder, conditioning.blocks_SH, strict=True):
            x_RH = block(x_RH, pattern, rotation, attended_SH, sentence_R)
        x_RH = self.decoder_norm(x_RH)
        if conditioning.output_SH is not None:
            x_RH = x_RH + conditioning.output_SH[sentence_R]
        return x_RH

    def condition(self, latents_SH: Tensor) -> LatentConditioning:
        """What the latents add in the decoder, computed once per sentence."""
        crosses = self.config.conditioning == "cross_attention"
        return LatentConditioning(
            None if self.latent_prefix is None else self.latent_prefix(latents_SH),
            tuple(block.attend_to_latents(latents_SH) if crosses else None for block in self.decoder),  # type: ignore[operator]
            None if self.output_latent is None else self.output_latent(latents_SH),
        )

    @property
    def output_latent(self) -> OutputLatent | None:
        """Saved under its first name, `latent_head`."""
        return self.latent_head

    @property
    def decoder_reach(self) -> int:
        """Number of positions before a sentence on which its positions depend, through all layers."""
        return len(self.decoder) * max(self.config.decoder_window - 1, 0)

    def decoder_pattern(self, batch: SentenceBatch) -> Sentences | SlidingWindow:
        """Which keys the positions of `batch.decoded` attend to."""
        decoded = batch.decoded
        if self.config.decoder_window == 0:
            return Sentences(decoded.positions, causal=True)
        window_R = decoded.window_S[decoded.positions.sequence_T]
        return SlidingWindow(window_R, self.config.decoder_window)

    def forward(self, batch: SentenceBatch) -> dict[str, Tensor]:
        """Sums over the batch: `objective` (to minimise), `nll` (nats), `correct` and `predicted` tokens."""
        posterior = self.posterior(batch)
        nll_R, hit_R = self.token_nll(self.sample(posterior), batch)
        penalty, sums = self.kl(posterior[batch.decoded.sentence_S])
        return {
            "objective": self.focal(nll_R).sum() + penalty,
            "nll": nll_R.detach().sum(),
            "correct": hit_R.sum().float(),
            "predicted": torch.tensor(float(len(hit_R)), device=hit_R.device),
            **sums,
        }

    def kl(self, posterior: Posterior) -> tuple[Tensor | float, dict[str, Tensor]]:
        """The KL penalty in the objective, and the KL divergence (nats) to log; 0 and nothing without a KL term."""
        mean_SH, log_variance_SH = posterior.mean_SH, posterior.log_variance_SH
        if log_variance_SH is None:
            return 0.0, {}
        kl_SH = 0.5 * (mean_SH.square() + log_variance_SH.exp() - 1 - log_variance_SH)
        penalty = self.config.kl_weight * kl_SH.clamp(min=self.config.free_bits).sum()
        return penalty, {"kl": kl_SH.detach().sum()}

    def focal(self, nll_R: Tensor) -> Tensor:
        """Focal loss (arXiv 1708.02002) of each token; with gamma 0 the cross-entropy."""
        gamma = self.config.focal_gamma
        return nll_R if gamma == 0 else (1 - (-nll_R).exp()).clamp(min=1e-8) ** gamma * nll_R

    def posterior(self, batch: SentenceBatch) -> Posterior:
        """The encoder's output for each sentence."""
        embedding = self.head if self.config.encoder_embedding == "output" else self.embedding
        embedded_TH = embedding(batch.tokens_T)
        if self.training and self.config.token_dropout > 0:
            kept_T = torch.rand(len(embedded_TH), device=embedded_TH.device) >= self.config.token_dropout
            embedded_TH = embedded_TH * kept_T[:, None]
        pattern = Sentences(batch.sentences, causal=False)
        positions_T = batch.sentences.positions_T
        x_TH, rotation = self._with_positions(embedded_TH, positions_T, pattern, batch.longest_sentence)
        for block in self.encoder:
            x_TH = block(x_TH, pattern, rotation)
        mean_SH = self.latent_norm(sum_sequences(x_TH, batch.sentences).to(x_TH.dtype))
        if self.config.kl_weight == 0:
            return Posterior(mean_SH, None)
        return Posterior(mean_SH, self.log_variance(mean_SH).clamp(-10.0, 10.0))

    def sample(self, posterior: Posterior) -> Tensor:
        """Latents [S, H]: the mean; in training with noise and dropout."""
        latents_SH = posterior.mean_SH
        if not self.training:
            return latents_SH
        if posterior.log_variance_SH is not None:
            latents_SH = latents_SH + torch.randn_like(latents_SH) * (0.5 * posterior.log_variance_SH).exp()
        return F.dropout(latents_SH, self.config.latent_dropout)

    def _with_positions(
        self, embedded_TH: Tensor, positions_T: Tensor, pattern: AttentionPattern, num_positions: int
    ) -> tuple[Tensor, Rotation | None]:
        """Input of the first block, and the rotary positions: `paper` adds sinusoidal positions here and has no rotary
        ones."""
        config = self.config
        if config.block == "paper":
            return add_positions(embedded_TH, positions_T, num_positions), None
        head_size = config.hidden_size // config.num_heads
        dtype = self.embedding.weight.dtype
        rotation = Rotation(pattern.positions_T, head_size, dtype, config.rope_theta)
        return embedded_TH * config.hidden_size**0.5, rotation


def check_longest(sentence_tokens: int, limit: int, where: str = "") -> None:
    """Raise `ModelError` for a sentence over the model's limit: it has no likelihood."""
    if sentence_tokens > limit:
        raise ModelError(
            f"{where}a sentence of {sentence_tokens} tokens has no likelihood: the model ends each sentence after "
            f"{limit}: prepare the shards with prepare.max_sentence_tokens={limit}, or train a SentenceVAE on them"
        )


AutoConfig.register(SentenceVaeConfig.model_type, SentenceVaeConfig, exist_ok=True)
AutoModel.register(SentenceVaeConfig, SentenceVae, exist_ok=True)
