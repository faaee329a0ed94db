"""The models, and how each is trained.

Each option of a model's architecture is defined once, in a dataclass here. The section of the configuration and the
configuration saved with the model both inherit it.
"""

from dataclasses import dataclass
from typing import Annotated, Any, Literal

from pydantic import Field, field_validator, with_config

from pipeline.config.paths import ModelPathString
from pipeline.config.section import DOCUMENTED, Count, CountOrZero, Section, Seed

Precision = Literal["fp32", "bf16", "fp16"]
"""Arithmetic of training."""
NonNegative = Annotated[float, Field(ge=0, le=1e12)]


class TrainConfig(Section):
    """How one model is trained."""

    steps: Count = 1000
    """Optimizer steps; the cosine ends with the last one."""
    micro_batch_tokens: Count = 4096
    """Largest number of document tokens in the loss of a micro-batch; a single longer window is a micro-batch of its
    own. Context-only tokens are not counted."""
    micro_batches_per_step: Count = 2
    """Micro-batches in the global batch of one optimizer step, whatever the world size."""
    learning_rate: float = Field(default=1e-3, gt=0, le=1e12)
    """Peak learning rate."""
    warmup_steps: CountOrZero = 50
    """Steps of linear warm-up."""
    min_learning_rate_fraction: float = Field(default=0.1, ge=0, le=1)
    """Learning rate at the last step, as a fraction of the peak."""
    weight_decay: float = Field(default=0.01, ge=0, le=1e12)
    """AdamW weight decay, on matrices only."""
    beta1: float = Field(default=0.9, ge=0, lt=1)
    """AdamW's decay of the mean of gradients."""
    beta2: float = Field(default=0.95, ge=0, lt=1)
    """AdamW's decay of the mean of squared gradients."""
    max_gradient_norm: float = Field(default=1.0, gt=0, le=1e12)
    """Gradients are clipped to this norm."""
    eval_every: Count = 200
    """Steps between evaluations on the dev split."""
    eval_micro_batches: Count = 8
    """Largest number of micro-batches of the dev split in an evaluation during training."""
    ema_decay: float | None = Field(default=None, gt=0, lt=1)
    """Decay of an exponential moving average of the weights, which is evaluated and saved as the model; none: no
    average."""
    activation_checkpointing: bool = False
    """Keep only the inputs of each layer for the backward pass and recompute the rest: less memory, more time."""
    spike_deviations: float = Field(default=6.0, ge=0, le=1e12)
    """Warn where the loss of a step is this many running standard deviations above its running mean; 0: never."""
    checkpoint_every: Count = 500
    """Steps between checkpoints; the last step always has one."""
    checkpoint_async: bool = False
    """Copy the state to host memory and write it while training continues; at most one checkpoint is written at a
    time."""
    keep_checkpoints: Count = 2
    """Checkpoints kept; older ones are deleted."""
    log_every: Count = 10
    """Steps between logged metrics."""
    seed: Seed = 0
    """Seed of weights, order, and dropout."""


SMALL_LLAMA: dict[str, Any] = {
    "model_type": "llama",
    "hidden_size": 128,
    "intermediate_size": 256,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 4,
    "initializer_range": 0.088,
    "tie_word_embeddings": True,
}


class TrunkConfig(Section):
    """The decoder-only transformer: the token-level model, and the trunk of the SLLM."""

    path: ModelPathString | None = None
    """Folder, GGUF file (`sllm[graft]`) or hub name of a pretrained causal language model; none: built from
    `config`."""
    config: dict[str, Any] = Field(default=SMALL_LLAMA)
    """Hugging Face configuration with `model_type`; without `model_type`, these values replace those of the default.
    The vocabulary is the shards', unless it is given here. If `path` is also given, the model there must have this
    configuration, and `sllm plan` downloads nothing."""
    attention: str | None = None
    """Attention implementation (`eager`, `sdpa`, `flash_attention_2`, ...); none: the library's choice."""
    trust_remote_code: bool = False
    """Run code that a hub model contains."""

    @field_validator("config")
    @classmethod
    def _of_one_family(cls, value: dict[str, Any]) -> dict[str, Any]:
        return value if "model_type" in value else {**SMALL_LLAMA, **value}


class LmConfig(Section):
    """The token-level language model: baseline, and source of the trunk."""

    context_tokens: int = Field(default=512, ge=2, lt=2**31)
    """Window of the model in tokens; longer documents are cut into several windows."""
    loss_tokens: Count | None = None
    """Tokens of a window that are in the training loss; those before them, up to `context_tokens` in all, are
    context-only. None: all of a window are in the loss, so on average half of it is context."""
    context_attention_heads: CountOrZero = 0
    """Heads of the cross-attention from each position, after the layers, to the latents of earlier chunks of tokens:
    the memory of a sentence-level model, without sentences. 0: no such attention."""
    context_chunk_tokens: Count = 16
    """Tokens of a chunk; chunks are cut from the start of the document, wherever sentences end."""
    context_chunks: Count = 64
    """Most chunks that a position attends to, those in its own window included."""
    train: TrainConfig = TrainConfig()
    """How it is trained."""


BlockKind = Literal["paper", "llama"]
Conditioning = Literal["cross_attention", "prefix", "none"]


@with_config(DOCUMENTED)
@dataclass(kw_only=True)
class VaeArchitecture:
    """Architecture of a SentenceVAE; saved with the model."""

    num_layers: Annotated[int, Field(ge=1, le=24)] = 1
    """Layers of the decoder, and of the encoder unless `encoder_layers` is set."""
    encoder_layers: Annotated[int | None, Field(ge=0, le=24)] = None
    """Layers of the encoder; none: as many as the decoder's."""
    num_heads: Count = 4
    """Attention heads."""
    ffn_multiplier: Annotated[float, Field(gt=0, le=64)] = 2.0
    """Feed-forward width divided by hidden size."""
    block: BlockKind = "paper"
    """`paper`: LayerNorm, GELU, biases, sinusoidal positions added to the embedding. `llama`: RMSNorm before each part,
    a gated feed-forward (SwiGLU), no biases, rotary positions."""
    conditioning: Conditioning = "cross_attention"
    """How the decoder's layers are conditioned on the latent. `cross_attention` (the paper): at each position of the
    sentence, in each layer. `prefix`: at the sentence's first position only, to which the others attend. `none`: not in
    the layers; `output_latent_scale` must be set."""
    decoder_window: CountOrZero = 0
    """Positions (tokens, and one BOS per sentence) that each layer of the decoder attends to: the position itself and
    those before it, across sentences. 0 (the paper): its own sentence only."""
    output_latent_scale: NonNegative = 0.0
    """If above 0, the latent is also added before the LM head at each position of its sentence; this is the initial
    value of its scale. Tokens whose output embeddings are similar to the latent become likelier."""
    encoder_embedding: Literal["input", "output"] = "input"
    """Token embedding of the encoder: the decoder's input embedding, or its output embedding (the weights of the LM
    head). With tied embeddings they are the same."""
    norm_first: bool = False
    """Normalise before each part of a block instead of after it. The paper: after; `llama`: always before."""
    tie_word_embeddings: bool = True
    """Tie the decoder's head to the token embedding. The paper: two matrices."""
    kl_weight: NonNegative = 0.0
    """Weight of the KL term; 0 is the paper's plain autoencoder."""
    rope_theta: Annotated[float, Field(ge=1, le=1e12)] = 10_000.0
    """Base of the rotary positions of `block: llama`. With `decoder_from_lm`: that of the model."""


@with_config(DOCUMENTED)
@dataclass(kw_only=True)
class VaeTraining:
    """Options of a SentenceVAE that only training uses: they may change when training continues from its weights."""

    free_bits: NonNegative = 0.5
    """KL per dimension (nats) below which there is no penalty."""
    focal_gamma: NonNegative = 0.0
    """Exponent of the focal loss in the training objective (the paper: 2). Reported losses are never focal."""
    token_dropout: Annotated[float, Field(ge=0, lt=1)] = 0.0
    """Share of the encoder's input tokens whose embedding training sets to zero."""
    latent_dropout: Annotated[float, Field(ge=0, lt=1)] = 0.0
    """Dropout on the latent during training."""
    freeze_embedding: bool = False
    """Freeze token embedding and LM head, also in the SLLM."""
    loss_vocabulary: CountOrZero = 0
    """Sampled softmax (arXiv 1412.2007), also in the SLLM: the loss in training normalises over the targets of the
    micro-batch and this many other tokens, drawn anew each time. So losses of training are estimates; those of the dev
    split are exact. 0: over all tokens."""


class VaeConfig(Section, VaeTraining, VaeArchitecture):
    """The SentenceVAE (arXiv 2408.00655, section 3.2)."""

    hidden_size: int | None = Field(default=None, ge=2, lt=2**20)
    """Width; none: the trunk's."""
    init_from_lm: bool = True
    """Initialise the token embedding from the token-level model, trained or pretrained, if its width is the same."""
    decoder_from_lm: tuple[CountOrZero, ...] | None = Field(default=None, min_length=1)
    """Layers of the token-level model, trained or pretrained, from which the decoder's layers start, one each: 0 is the
    first. Norm, head, and the scale of the latents start from the model too. Needs `block: llama`, a model
    of such layers, and its widths. None: fresh weights."""
    train: TrainConfig = TrainConfig()
    """How it is trained."""


@with_config(DOCUMENTED)
@dataclass(kw_only=True)
class SllmArchitecture:
    """Options of a sentence-level language model that are saved with it."""

    context_sentences: Annotated[int, Field(ge=2, lt=2**31)] = 64
    """Window of the trunk in sentences; longer documents are cut into several windows."""
    context_attention_heads: CountOrZero = 0
    """Heads of the cross-attention from each position of the decoder, after its layers, to the latents of earlier
    sentences. The number must divide the size of a latent. 0 (the paper): no such attention."""
    state_attention_sentences: CountOrZero | None = None
    """Earlier sentences to whose last positions each position of the decoder attends, in each layer, besides those of
    `vae.decoder_window`; with gradients (arXiv 2512.25026). There is no sentence encoder then: the latent of a sentence
    is the decoder's own output at its last position. Needs `vae.decoder_window`, `vae.conditioning: none`,
    `vae.encoder_layers: 0`. 0, as a control: the window alone. None (the paper): a sentence encoder."""
    trunk_prediction: bool = True
    """Whether the decoder gets the latent that the trunk predicts. False, as a control: zeros, in training too; the
    trunk decides on the stop alone."""
    code_books: CountOrZero = 0
    """Codebooks of a discrete code of each sentence, which the trunk predicts beside the latent (arXiv 2602.08984); the
    number must divide the size of a latent. The decoder gets the expected code too. 0 (the paper): no codes."""
    code_entries: Annotated[int, Field(ge=2, lt=2**16)] = 64
    """Entries of each codebook."""
    code_loss_weight: NonNegative = 0.1
    """Weight of the codes' cross-entropy (nats per sentence, all codebooks together) in the training objective. It is
    not part of reported losses."""
    freeze_vae: bool = False
    """Freeze the weights of the SentenceVAE."""


class SllmConfig(Section, SllmArchitecture):
    """The sentence-level language model."""

    loss_sentences: Count | None = None
    """Sentences of a window that are in the training loss; those before them, up to `context_sentences` in all, are
    context-only: only the encoder and the trunk compute them, which costs little. None: all of a window are in the
    loss, so on average half of it is context."""
    trunk_from: Literal["lm", "path", "config"] = "lm"
    """Where the trunk's weights come from: the trained token-level model (`models.lm`), the pretrained one
    (`trunk.path`), or random ones."""
    train_trunk: Literal["all", "none", "ends", "lora"] = "all"
    """Which weights of the trunk are trained: all, none, the layers at its ends, or LoRA's adapters beside them
    (`sllm[lora]`), which are added to the weights when the model is saved."""
    train_trunk_end_layers: Count = 2
    """With `train_trunk: ends`, the layers trained at each end."""
    lora_rank: Count = 8
    """Rank of LoRA's products."""
    lora_alpha: Count = 16
    """LoRA's products are scaled by `lora_alpha / lora_rank`."""
    lora_dropout: float = Field(default=0.0, ge=0, lt=1)
    """Dropout before LoRA's products."""
    vae_from: Literal["vae", "config"] = "vae"
    """Where the SentenceVAE comes from: the trained one (`models.vae`), or random weights by the section `vae`, trained
    with the trunk from the first step."""
    train: TrainConfig = TrainConfig()
    """How it is trained."""
