"""Small models and documents that tests of the pipeline share."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
import torch
from transformers import AutoConfig

from pipeline.models.sentence_vae import SentenceVaeConfig
from pipeline.models.sllm import Sllm, SllmModelConfig

VOCAB, BOS, EOS = 50, 1, 2

TRUNKS: dict[str, dict[str, Any]] = {
    "opt": {"model_type": "opt", "ffn_dim": 48, "dropout": 0.0, "word_embed_proj_dim": 32},
    "opt-projected": {"model_type": "opt", "ffn_dim": 48, "dropout": 0.0, "word_embed_proj_dim": 16},
    "llama": {"model_type": "llama", "intermediate_size": 48, "num_key_value_heads": 2},
    "qwen2": {"model_type": "qwen2", "intermediate_size": 48, "num_key_value_heads": 2},
    "qwen3": {"model_type": "qwen3", "intermediate_size": 48, "num_key_value_heads": 2, "head_dim": 8},
    "mistral": {"model_type": "mistral", "intermediate_size": 48, "num_key_value_heads": 2},
    "gpt2": {"model_type": "gpt2", "n_inner": 48, "resid_pdrop": 0.0, "embd_pdrop": 0.0, "attn_pdrop": 0.0},
    "gpt_neox": {"model_type": "gpt_neox", "intermediate_size": 48},
}


@dataclass(frozen=True)
class FakeDocuments:
    """Documents in memory, with the interface of `pipeline.shards.documents.Documents`."""

    documents: list[list[list[int]]]

    def __post_init__(self) -> None:
        lengths = [[len(sentence) for sentence in document] for document in self.documents]
        flat = [token for document in self.documents for sentence in document for token in sentence]
        set_ = object.__setattr__
        set_(self, "flat", np.array(flat, np.int32))
        set_(self, "sentence_lengths", np.array([n for document in lengths for n in document], np.int32))
        set_(self, "sentence_starts_N1", np.cumsum([0, *map(len, lengths)]))
        set_(self, "token_starts_N1", np.cumsum([0, *map(sum, lengths)]))
        set_(self, "num_bytes_N", np.array([3 * sum(document) for document in lengths], np.int64))

    @property
    def num_documents(self) -> int:
        return len(self.documents)

    def tokens(self, start: int, end: int) -> np.ndarray:
        return self.flat[start:end]

    def gather(self, start_W: np.ndarray, end_W: np.ndarray) -> np.ndarray:
        return np.concatenate([self.flat[start:end] for start, end in zip(start_W, end_W, strict=True)])


@pytest.fixture
def trunk_config() -> Callable[..., Any]:
    def build(name: str, **options: Any) -> Any:
        shape = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4}
        ids = {"vocab_size": VOCAB, "bos_token_id": BOS, "eos_token_id": EOS, "pad_token_id": None}
        merged = {**shape, **ids, "max_position_embeddings": 128, **TRUNKS[name], **options}
        return AutoConfig.for_model(merged.pop("model_type"), **merged)

    return build


@pytest.fixture
def sllm(trunk_config: Callable[..., Any]) -> Callable[..., Sllm]:
    def build(
        trunk: str = "llama",
        attention: str = "sdpa",
        context_sentences: int = 16,
        num_hidden_layers: int = 2,
        context_attention_heads: int = 0,
        state_attention_sentences: int | None = None,
        code_books: int = 0,
        **vae: Any,
    ) -> Sllm:
        torch.manual_seed(0)
        options = {"vocab_size": VOCAB, "hidden_size": 32, "num_layers": 2, "max_sentence_tokens": 12, **vae}
        model = Sllm(
            SllmModelConfig(
                vae_config=SentenceVaeConfig(bos_token_id=BOS, eos_token_id=EOS, **options),
                trunk_config=trunk_config(trunk, num_hidden_layers=num_hidden_layers),
                context_sentences=context_sentences,
                context_attention_heads=context_attention_heads,
                state_attention_sentences=state_attention_sentences,
                code_books=code_books,
            )
        )
        model.trunk.set_attn_implementation(attention)
        with torch.no_grad():
            model.start_H.normal_()
        return model.double().eval()

    return build


@pytest.fixture
def random_documents() -> Callable[..., FakeDocuments]:
    def build(count: int = 6, seed: int = 0, sentences: int = 9, tokens: int = 12) -> FakeDocuments:
        rng = np.random.default_rng(seed)
        return FakeDocuments(
            [
                [
                    rng.integers(3, VOCAB, rng.integers(1, tokens + 1)).tolist()
                    for _ in range(rng.integers(1, sentences + 1))
                ]
                for _ in range(count)
            ]
        )

    return build
