"""SentenceVAE: one sentence to one vector and back (arXiv 2408.00655, section 3).

Encoder: token embedding + sinusoidal positions -> blocks -> sum over tokens -> LayerNorm. Decoder: the same
embedding + positions -> blocks of causal self-attention and attention to that vector -> vocabulary.

Shape suffixes: T tokens, R tokens and end marks, S sentences, B sentences decoded side by side, H hidden, V vocabulary.
"""

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import AutoConfig, AutoModel, PreTrainedConfig, PreTrainedModel

from pipeline.attention import Block, KeyValueCache, add_positions
from pipeline.batches import SentenceBatch
from pipeline.cross_entropy import head_cross_entropy
from pipeline.errors import ModelError
from pipeline.precision import at_least_fp32
from pipeline.ragged import sum_sequences
from pipeline.sampling import Sampler


class SentenceVaeConfig(PreTrainedConfig):
    """Shape and training options of a `SentenceVae`; `pipeline.config.VaeConfig` says what each does."""

    model_type = "sentence_vae"

    vocab_size: int = 8192
    hidden_size: int = 128
    num_layers: int = 1
    num_heads: int = 4
    feed_forward_factor: float = 2.0
    norm_first: bool = False
    kl_weight: float = 0.0
    kl_floor: float = 0.5
    focal_gamma: float = 0.0
    token_dropout: float = 0.0
    latent_dropout: float = 0.0
    initializer_range: float | None = None
    """Standard deviation of fresh weights; none: hidden_size ** -0.5, without which the way through the latent
    starts so faint that small models take many times the steps to use it."""
    bos_token_id: int = 1
    eos_token_id: int = 2
    tie_word_embeddings: bool = True
    max_sentence_tokens: int = 64
    tokenizer_digest: str = ""
    segmenter: dict[str, Any] | None = None

    def __post_init__(self, **kwargs: Any) -> None:
        if self.initializer_range is None:
            self.initializer_range = self.hidden_size**-0.5
        super().__post_init__(**kwargs)


class SentenceVae(PreTrainedModel):
    """Sentence encoder and decoder around one latent vector."""

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
        self.embedding = nn.Embedding(config.vocab_size, hidden)
        self.encoder = nn.ModuleList(Block(config, decoder=False) for _ in range(config.num_layers))
        self.latent_norm = nn.LayerNorm(hidden)
        if config.kl_weight > 0:
            self.log_variance = nn.Linear(hidden, hidden)
        self.decoder = nn.ModuleList(Block(config, decoder=True) for _ in range(config.num_layers))
        self.decoder_norm = nn.LayerNorm(hidden) if config.norm_first else nn.Identity()
        self.head = nn.Linear(hidden, config.vocab_size, bias=False)
        self.post_init()

    def get_input_embeddings(self) -> nn.Module:
        """The token embedding, shared by encoder and decoder."""
        return self.embedding

    def get_output_embeddings(self) -> nn.Module:
        """The decoder's head, tied to the token embedding."""
        return self.head

    def encode(self, batch: SentenceBatch) -> Tensor:
        """Latent of each sentence [S, H]; in training with noise, as the KL term wants it."""
        return self._sample(*self._posterior(batch))

    def token_nll(self, latents_SH: Tensor, batch: SentenceBatch) -> tuple[Tensor, Tensor]:
        """Negative log-likelihood (nats) of each token and end mark [R], and whether it was the likeliest [R]."""
        return head_cross_entropy(self.head, self.decode_hidden(latents_SH, batch), batch.decoder_targets_R)

    def decode_logits(self, latents_SH: Tensor, batch: SentenceBatch) -> Tensor:
        """Next-token logits of each row of the decoder [R, V], given the sentences' true tokens before it."""
        return self.head(self.decode_hidden(latents_SH, batch))

    def decode_hidden(self, latents_SH: Tensor, batch: SentenceBatch) -> Tensor:
        """What the head makes logits of [R, H]."""
        rows = batch.decoder_rows
        x_RH = add_positions(
            self.embedding(batch.decoder_inputs_R), rows.positions_T, self._num_positions(rows.gathers)
        )
        for block in self.decoder:
            x_RH = block(x_RH, rows, latents_SH)
        return self.decoder_norm(x_RH)

    def forward(self, batch: SentenceBatch) -> dict[str, Tensor]:
        """Sums over the batch: `objective` (to minimise), `nll` (nats), and what accuracy needs."""
        mean_SH, log_variance_SH = self._posterior(batch)
        nll_R, hit_R = self.token_nll(self._sample(mean_SH, log_variance_SH), batch)
        objective = self.focal(nll_R).sum()
        sums = {
            "nll": nll_R.detach().sum(),
            "correct": hit_R.sum().float(),
            "predicted": torch.tensor(float(len(hit_R)), device=hit_R.device),
        }
        if log_variance_SH is not None:
            kl_SH = 0.5 * (mean_SH.square() + log_variance_SH.exp() - 1 - log_variance_SH)
            objective = objective + self.config.kl_weight * kl_SH.clamp(min=self.config.kl_floor).sum()
            sums["kl"] = kl_SH.detach().sum()
        return {"objective": objective, **sums}

    def focal(self, nll_R: Tensor) -> Tensor:
        """Focal loss (arXiv 1708.02002) of each token; with gamma 0 the cross-entropy itself."""
        gamma = self.config.focal_gamma
        return nll_R if gamma == 0 else (1 - (-nll_R).exp()).clamp(min=1e-8) ** gamma * nll_R

    @torch.inference_mode()
    def decode(self, latents_BH: Tensor, max_tokens: int, sampler: Sampler) -> list[list[int]]:
        """Write a sentence of 1 to `max_tokens` tokens for each latent; end marks are left out.

        Each step decodes only the sentences that have not ended, with a key/value cache.
        """
        config, eos_id = self.config, self.config.eos_token_id
        sentences: list[list[int]] = [[] for _ in range(len(latents_BH))]
        open_B = torch.arange(len(latents_BH), device=latents_BH.device)
        head_size = config.hidden_size // config.num_heads
        caches = [
            KeyValueCache(len(latents_BH), max_tokens, config.num_heads, head_size, latents_BH)
            for _ in self.decoder
        ]
        token_B = torch.full_like(open_B, config.bos_token_id)
        for place in range(max_tokens):
            x_BH = add_positions(self.embedding(token_B), torch.full_like(token_B, place), max_tokens)
            for block, cache in zip(self.decoder, caches, strict=True):
                assert isinstance(block, Block)
                x_BH = block.step(x_BH, cache, latents_BH)
            logits_BV = at_least_fp32(self.head(self.decoder_norm(x_BH)))
            if place == 0:
                logits_BV[:, eos_id] = -torch.inf  # a sentence has at least one token
            if config.bos_token_id != eos_id:
                logits_BV[:, config.bos_token_id] = -torch.inf
            token_B = sampler(logits_BV)
            going = token_B != eos_id
            for row, token in zip(open_B[going].tolist(), token_B[going].tolist(), strict=True):
                sentences[row].append(token)
            if not bool(going.all()):
                open_B, token_B, latents_BH = open_B[going], token_B[going], latents_BH[going]
                for cache in caches:
                    cache.keep(going)
                if len(open_B) == 0:
                    break
        return sentences

    def _posterior(self, batch: SentenceBatch) -> tuple[Tensor, Tensor | None]:
        embedded_TH = self.embedding(batch.tokens_T)
        if self.training and self.config.token_dropout > 0:
            kept_T = torch.rand(len(embedded_TH), device=embedded_TH.device) >= self.config.token_dropout
            embedded_TH = embedded_TH * kept_T[:, None]
        layout = batch.sentences
        x_TH = add_positions(embedded_TH, layout.positions_T, self._num_positions(layout.gathers))
        for block in self.encoder:
            x_TH = block(x_TH, layout)
        mean_SH = self.latent_norm(sum_sequences(x_TH, layout).to(x_TH.dtype))
        if self.config.kl_weight == 0:
            return mean_SH, None
        return mean_SH, self.log_variance(mean_SH).clamp(-10.0, 10.0)

    def _sample(self, mean_SH: Tensor, log_variance_SH: Tensor | None) -> Tensor:
        if not self.training:
            return mean_SH
        latents_SH = mean_SH
        if log_variance_SH is not None:
            latents_SH = mean_SH + torch.randn_like(mean_SH) * (0.5 * log_variance_SH).exp()
        return F.dropout(latents_SH, self.config.latent_dropout)

    @staticmethod
    def _num_positions(gathers: tuple[Tensor, ...]) -> int:
        return max(gather.shape[1] for gather in gathers)


AutoConfig.register(SentenceVaeConfig.model_type, SentenceVaeConfig, exist_ok=True)
AutoModel.register(SentenceVaeConfig, SentenceVae, exist_ok=True)
