"""A small SLLM with its data, for tests of engines."""

from types import SimpleNamespace

import numpy as np
import torch
from transformers import AutoConfig

from pipeline.models.sentence_vae import SentenceVaeConfig
from pipeline.models.sllm import Sllm, SllmModelConfig
from pipeline.stream.order import Corpus
from pipeline.stream.windows import SentenceWindows
from pipeline.training.task import Task


def build_task():
    """The real SLLM, small, with dropout, the same on every rank."""
    torch.manual_seed(0)
    trunk = AutoConfig.for_model(
        "opt", vocab_size=50, hidden_size=32, num_hidden_layers=2, num_attention_heads=4, ffn_dim=48,
        word_embed_proj_dim=32, pad_token_id=None, dropout=0.0,
    )  # fmt: skip
    vae = SentenceVaeConfig(
        vocab_size=50, hidden_size=32, token_dropout=0.1, latent_dropout=0.1, kl_weight=1e-3,
        output_latent_scale=0.1, encoder_embedding="output", tie_word_embeddings=False,
    )  # fmt: skip
    model = Sllm(
        SllmModelConfig(vae_config=vae, trunk_config=trunk, context_sentences=16, context_attention_heads=2)
    )
    rng = np.random.default_rng(0)
    lengths = rng.integers(1, 12, 200)
    counts = rng.multinomial(200, np.ones(30) / 30).clip(1)
    counts[-1] += 200 - counts.sum()
    tokens = rng.integers(3, 50, lengths.sum()).astype(np.int32)
    sentence_starts = np.cumsum([0, *counts])
    documents = SimpleNamespace(
        sentence_lengths=lengths,
        sentence_starts_N1=sentence_starts,
        token_starts_N1=np.concatenate([[0], np.cumsum(lengths)])[sentence_starts],
        gather=lambda starts, ends: np.concatenate([tokens[a:b] for a, b in zip(starts, ends, strict=True)]),
    )
    windows = SentenceWindows(documents, 16, 1, 2, overlap=8, decoded_context_positions=0)
    corpora = [Corpus.of(windows)]
    return Task(model, model, SimpleNamespace(save=lambda folder: None), corpora, corpora)
