"""In chunks as at once: losses, hits, gradients, memory."""

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F
from transformers import AutoModelForCausalLM

from pipeline.models import cross_entropy
from pipeline.models.blocks import Head
from pipeline.models.cross_entropy import head_cross_entropy, sampled_cross_entropy
from pipeline.models.token_lm import HEAD_IS_LAST, TokenLm
from pipeline.stream.batches import IGNORED, SentenceBatch, TokenBatch

POSITIONS, HIDDEN, VOCAB = 70, 16, 300


@pytest.fixture
def in_chunks(monkeypatch):
    monkeypatch.setattr(cross_entropy, "WHOLE_LOGITS", 0)
    monkeypatch.setattr(cross_entropy, "CHUNK_LOGITS", {"cpu": 16 * VOCAB})


def given(bias=False):
    torch.manual_seed(0)
    hidden_RH = torch.randn(POSITIONS, HIDDEN, requires_grad=True)
    targets_R = torch.randint(0, VOCAB, (POSITIONS,))
    head = nn.Linear(HIDDEN, VOCAB, bias=bias)
    with torch.no_grad():  # some hits
        targets_R[::3] = head(hidden_RH)[::3].argmax(-1)
    targets_R[5] = IGNORED
    return head, hidden_RH, targets_R


def gradients(loss, *tensors):
    loss.backward()
    out = [tensor.grad.clone() for tensor in tensors]
    for tensor in tensors:
        tensor.grad = None
    return out


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
@pytest.mark.parametrize("bias", [False, True])
def test_losses_hits_and_gradients(in_chunks, precision, bias):
    head, hidden_RH, targets_R = given(bias)
    weights_R = torch.rand(POSITIONS)
    with torch.autocast("cpu", torch.bfloat16, enabled=precision == "bf16"):
        nll_R, hit_R = head_cross_entropy(head, hidden_RH, targets_R)
        logits_RV = head(hidden_RH).float()
    expected_R = F.cross_entropy(logits_RV, targets_R, reduction="none", ignore_index=IGNORED)
    assert nll_R.dtype == torch.float32 and nll_R[5] == 0 and not hit_R[5]
    torch.testing.assert_close(nll_R, expected_R)
    assert torch.equal(hit_R, logits_RV.argmax(-1) == targets_R) and 0 < hit_R.sum() < POSITIONS
    parameters = [hidden_RH, *head.parameters()]
    found = gradients((nll_R * weights_R).sum(), *parameters)
    expected = gradients((expected_R * weights_R).sum(), *parameters)
    # In bf16 the gradient of the head is rounded once per chunk.
    tolerance = {"rtol": 2e-2, "atol": 2e-2} if precision == "bf16" else {}
    for mine, theirs in zip(found, expected, strict=True):
        torch.testing.assert_close(mine, theirs, **tolerance)


def test_nothing_of_the_size_of_all_logits_is_ever_made(in_chunks):
    largest = 0

    class LargestTensor(torch.utils._python_dispatch.TorchDispatchMode):
        def __torch_dispatch__(self, function, types, arguments=(), options=None):
            nonlocal largest
            out = function(*arguments, **(options or {}))
            if isinstance(out, torch.Tensor):
                largest = max(largest, out.numel())
            return out

    head, hidden_RH, targets_R = given()
    with LargestTensor():
        head_cross_entropy(head, hidden_RH, targets_R)[0].sum().backward()
    assert largest == 16 * VOCAB < POSITIONS * VOCAB
    with torch.no_grad(), LargestTensor():
        head_cross_entropy(head, hidden_RH, targets_R)
    assert largest == 16 * VOCAB


def test_a_frozen_head_gets_no_gradient(in_chunks):
    head, hidden_RH, targets_R = given()
    head.requires_grad_(False)
    head_cross_entropy(head, hidden_RH, targets_R)[0].sum().backward()
    assert head.weight.grad is None and hidden_RH.grad is not None


TRUNKS = ["opt", "opt-projected", "llama", "qwen2", "qwen3", "mistral", "gpt2", "gpt_neox"]


@pytest.mark.parametrize("trunk", TRUNKS)
def test_a_token_level_model_has_the_same_loss_in_chunks_as_at_once(trunk_config, monkeypatch, trunk):
    torch.manual_seed(0)
    model = TokenLm(AutoModelForCausalLM.from_config(trunk_config(trunk))).double().eval()
    assert model.model.config.model_type in HEAD_IS_LAST
    batch = TokenBatch.pack(np.arange(3, 43), [17, 23], bos_id=1, eos_id=2)
    whole_DL = model.score(batch)
    monkeypatch.setattr(cross_entropy, "WHOLE_LOGITS", 0)
    monkeypatch.setattr(cross_entropy, "CHUNK_LOGITS", {"cpu": 5 * 50})
    torch.testing.assert_close(model.score(batch), whole_DL)


def test_a_sentence_vae_has_the_same_loss_in_chunks_as_at_once(sllm, monkeypatch):
    vae = sllm(max_sentence_tokens=20).vae
    batch = SentenceBatch.pack(np.arange(3, 40), [7, 20, 10], [3], bos_id=1, eos_id=2)
    latents_SH = vae.encode(batch)
    whole_R, hit_R = vae.token_nll(latents_SH, batch)
    monkeypatch.setattr(cross_entropy, "WHOLE_LOGITS", 0)
    monkeypatch.setattr(cross_entropy, "CHUNK_LOGITS", {"cpu": 5 * 50})
    found_R, found_hit_R = vae.token_nll(latents_SH, batch)
    torch.testing.assert_close(found_R, whole_R)
    assert torch.equal(found_hit_R, hit_R)


def test_a_sample_of_all_other_tokens_gives_the_exact_loss():
    head, hidden_RH, targets_R = Head(8, 50, bias=False), torch.randn(20, 8), torch.randint(50, (20,))
    whole_R, hit_R = head_cross_entropy(head, hidden_RH, targets_R)
    found_R, found_hit_R = sampled_cross_entropy(head, hidden_RH, targets_R, 50)
    torch.testing.assert_close(found_R, whole_R)
    assert torch.equal(found_hit_R, hit_R)
    everything_R = torch.arange(50)  # no token is left to draw
    hidden_RH = torch.randn(50, 8)
    found_R, _ = sampled_cross_entropy(head, hidden_RH, everything_R, 4)
    torch.testing.assert_close(found_R, head_cross_entropy(head, hidden_RH, everything_R)[0])


def test_the_sampled_normaliser_is_right_on_average():
    torch.manual_seed(0)
    head, hidden_RH, targets_R = Head(8, 300, bias=False), torch.randn(6, 8), torch.randint(300, (6,))
    logits_RV = head(hidden_RH).detach()
    own_R = logits_RV.gather(1, targets_R[:, None])[:, 0]
    with torch.no_grad():
        draws = [sampled_cross_entropy(head, hidden_RH, targets_R, 40)[0] + own_R for _ in range(800)]
    mean_R = torch.stack(draws).exp().mean(0)
    torch.testing.assert_close(mean_R, logits_RV.exp().sum(1), rtol=0.02, atol=0)
    sampled_cross_entropy(head, hidden_RH, targets_R, 40)[0].sum().backward()
    assert int((head.weight.grad != 0).any(1).sum()) == len(targets_R.unique()) + 40
