"""The sentence-level model sees no future, predicts the right targets, and is the same after it is saved and loaded."""

import math

import numpy as np
import pytest
import torch
from torch.nn import functional as F
from transformers import AutoModel

from pipeline.errors import ModelError
from pipeline.evaluation.ablations import score
from pipeline.evaluation.likelihood import sllm_nll
from pipeline.stream.batches import SentenceBatch
from pipeline.stream.windows import SentenceWindows

BOS, EOS, VOCAB = 1, 2, 50


LONGEST = 12  # tokens per sentence: after so many EOS is certain


TRUNKS = ["opt", "opt-projected", "llama"]  # tests/pipeline/models/test_trunk.py has more


HEAD = {
    "output_latent_scale": 0.1,
    "encoder_embedding": "output",
    "encoder_layers": 0,
    "tie_word_embeddings": False,
}


STATES = {
    **{"block": "llama", "decoder_window": 5, "encoder_layers": 0, "state_attention_sentences": 3},
    **{"conditioning": "none", "output_latent_scale": 0.5, "tie_word_embeddings": False},
}


VAES = {
    "paper": {},
    "norm-first": {"norm_first": True},
    "llama": {"block": "llama", "encoder_layers": 1},
    "sliding": {"block": "llama", "decoder_window": 9},
    "wide": {"block": "llama", "decoder_window": 100},
    "prefix": {"block": "llama", "conditioning": "prefix", "decoder_window": 9},
    "prefix-paper": {"conditioning": "prefix"},
    "head": {**HEAD, "conditioning": "none"},
    "head-sliding": {**HEAD, "conditioning": "prefix", "block": "llama", "decoder_window": 9},
    "context-attention": {**HEAD, "context_attention_heads": 4},
    "context-attention-sliding": {"context_attention_heads": 1, "block": "llama", "decoder_window": 9},
    "state-attention": STATES,
    "codes": {**HEAD, "context_attention_heads": 4, "code_books": 4},
}


def pack(*documents):
    sentences = [sentence for document in documents for sentence in document]
    return SentenceBatch.pack(
        [token for sentence in sentences for token in sentence],
        [len(sentence) for sentence in sentences],
        [len(document) for document in documents],
        bos_id=BOS,
        eos_id=EOS,
    )


def losses_by_sentence(model, batch):
    """Losses of the tokens, EOS and the stop decision of each sentence as one tuple."""
    with torch.no_grad():
        nll_R, stop_nll_S, _ = model.score(batch)
    return [
        (*nll_R[batch.decoded.positions.sequence_T == s].tolist(), stop_nll_S[s].item())
        for s in range(len(stop_nll_S))
    ]


@pytest.mark.parametrize("trunk", TRUNKS)
@pytest.mark.parametrize("attention", ["eager", "sdpa", "flex_attention"])
@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # torch's compiler, of itself
def test_no_future(sllm, random_documents, trunk, attention):
    # Without gradients: on the CPU flex attention has no backward pass, and no float64.
    model = sllm(trunk, attention).requires_grad_(False)
    model = model.float() if attention == "flex_attention" else model
    document, other = random_documents(2, seed=1, sentences=8).documents
    document = [*document, [3, 4], [5, 6, 7], [8], [9, 10]]
    before = losses_by_sentence(model, pack(document, other))
    for k in range(len(document)):
        changed = [list(sentence) for sentence in document]
        changed[k] = [(token - 2) % (VOCAB - 3) + 3 for token in changed[k]]
        after = losses_by_sentence(model, pack(changed, other))
        assert after[:k] == before[:k]
        # Its own stop decision sees it; its tokens are predicted from what came before, but are others now.
        for later in range(k, len(document)):
            assert after[later] != before[later]
        assert after[len(document) :] == before[len(document) :]


@pytest.mark.parametrize("vae", VAES.values(), ids=VAES)
def test_no_token_sees_itself_or_what_follows(sllm, random_documents, vae):
    """Bit for bit: a change of one token changes no loss before its own, in no kind of decoder."""
    model = sllm(**vae).requires_grad_(False)
    first, second = random_documents(2, seed=5, sentences=8).documents
    before = model.score(pack(first, second))[0]
    position, changed = 0, [list(sentence) for sentence in first]
    for s, sentence in enumerate(first):
        for t, token in enumerate(sentence):
            changed[s][t] = (token - 2) % (VOCAB - 3) + 3
            after = model.score(pack(changed, second))[0]
            assert torch.equal(after[: position + t], before[: position + t])
            assert after[position + t] != before[position + t]
            assert torch.equal(
                after[sum(map(len, first)) + len(first) :], before[sum(map(len, first)) + len(first) :]
            )
            changed[s][t] = token
        position += len(sentence) + 1


def test_the_local_decoder_sees_the_sentence_before(sllm):
    """With predicted latents replaced by zeros, only a decoder with a window depends on the sentence before."""
    for context, knows in ((0, False), (6, True)):
        model = sllm(block="llama", decoder_window=context)
        a, b = (score(model, pack([[5, 6, x], [7, 8]]), "zeroed")[0][4:] for x in (9, 10))
        assert torch.equal(a, b) != knows


@pytest.mark.parametrize("trunk", TRUNKS)
@pytest.mark.parametrize(
    "vae",
    [VAES[name] for name in ("paper", "norm-first", "llama", "prefix-paper", "head", "context-attention")],
)
def test_loss_equals_one_computed_sentence_by_sentence(sllm, random_documents, trunk, vae):
    model = sllm(trunk, **vae)
    documents = random_documents(5, seed=2).documents
    expected = sum(document_nll(model, document) for document in documents)
    sums = model(pack(*documents))
    assert sums["nll"].item() == pytest.approx(expected, rel=1e-10)
    assert sums["objective"].item() == pytest.approx(expected, rel=1e-10)


def attended(attention, query_H, latents):
    """Attention to earlier sentences, head by head; the first key is "none", whose value is 0."""
    found = []
    values = [torch.zeros_like(query_H), *(latent[0] for latent in latents)]
    keys = [attention.none_H, *(attention.key(latent[0]) for latent in latents)]
    for part in attention.query(query_H).tensor_split(attention.num_heads):
        size, at = len(part), sum(map(len, found))
        scores = torch.stack([part @ key[at : at + size] for key in keys]) / size**0.5
        weights = scores.softmax(0)
        found.append(sum(w * value[at : at + size] for w, value in zip(weights, values, strict=True)))
    return torch.cat(found) * attention.scale_H


def document_nll(model, document):
    """The likelihood by its definition, with loops: one sentence, one token at a time, in float64."""
    with torch.no_grad():
        latents = [model.vae.encode(pack([sentence])) for sentence in document]
        total = 0.0
        for i, sentence in enumerate(document):
            context = torch.cat([model.start_H[None], *latents[:i]])[None]
            hidden = model.trunk(inputs_embeds=model.to_trunk(context), use_cache=False).last_hidden_state
            predicted = model.from_trunk(hidden[:, -1])
            batch = pack([sentence])
            hidden = model.vae.decode_batch(predicted, batch)
            attention = model.context_attention
            if attention is not None:
                hidden = torch.stack(
                    [output_H + attended(attention, output_H, latents[:i]) for output_H in hidden]
                )
            logits = model.vae.head(hidden)
            for logits_V, target in list(zip(logits, [*sentence, EOS], strict=True))[:LONGEST]:
                total -= F.log_softmax(logits_V, -1)[target].item()
            context = torch.cat([model.start_H[None], *latents[: i + 1]])[None]
            hidden = model.trunk(inputs_embeds=model.to_trunk(context), use_cache=False).last_hidden_state
            stop = torch.sigmoid(model.stop_head(hidden[:, -1])).item()
            total -= math.log(stop if i == len(document) - 1 else 1 - stop)
    return total


def test_document_nll_does_not_depend_on_batching_padding_or_packing(sllm, random_documents):
    model = sllm()
    documents = random_documents(12, seed=3)
    source = SentenceWindows(documents, 16, BOS, EOS)
    expected = [document_nll(model, document) for document in documents.documents]
    for micro_batch_tokens in (1, 40, 150, 10_000):
        assert sllm_nll(model, source, micro_batch_tokens) == pytest.approx(expected, rel=1e-10)


def test_windows_of_a_long_document_predict_each_sentence_once(sllm, random_documents):
    model = sllm(context_sentences=4)
    documents = random_documents(4, seed=4, sentences=20)
    source = SentenceWindows(documents, 4, BOS, EOS, overlap=2)
    in_small_batches = sllm_nll(model, source, 1)
    assert sllm_nll(model, source, 1000) == pytest.approx(in_small_batches, rel=1e-10)
    predicted = sum(int(source.batch([i]).decoded.in_loss_S.sum()) for i in range(len(source.windows)))
    assert predicted == len(documents.sentence_lengths)


@pytest.mark.parametrize(
    "vae", [VAES[name] for name in ("paper", "context-attention", "sliding", "context-attention-sliding")]
)
def test_context_that_is_not_decoded_changes_no_likelihood(sllm, random_documents, vae):
    """The decoder need not run on context that no position in the loss depends on."""
    model = sllm(context_sentences=8, **vae)
    documents = random_documents(6, seed=3, sentences=30)
    assert model.vae.decoder_reach == (16 if "decoder_window" in vae else 0)
    some = SentenceWindows(
        documents, 8, BOS, EOS, overlap=6, decoded_context_positions=model.vae.decoder_reach
    )
    all_ = SentenceWindows(documents, 8, BOS, EOS, overlap=6)
    expected = sllm_nll(model, all_, 100)
    assert sllm_nll(model, some, 100) == pytest.approx(expected, rel=1e-7)  # rotary angles are fp32
    batch = some.batch(np.arange(len(some.windows)))
    assert len(batch.decoded.stop_S) < len(batch.window_S)
    sums = model(batch)
    assert sums["nll"].item() == pytest.approx(expected.sum(), rel=1e-7)
    assert sums["predicted"] == len(documents.flat) + len(documents.sentence_lengths)
    assert some.tokens_W.sum() == len(documents.flat)


def test_save_and_load_give_the_same_model(sllm, random_documents, tmp_path):
    for trunk in TRUNKS:
        options = {**HEAD, "context_attention_heads": 2, "code_books": 4} if trunk == "llama" else {}
        model = sllm(trunk, kl_weight=1e-3, **options).float()
        model.save_pretrained(tmp_path / trunk)
        again = AutoModel.from_pretrained(tmp_path / trunk).eval()
        assert type(again) is type(model)
        mine, theirs = model.state_dict(), again.state_dict()
        assert mine.keys() == theirs.keys()
        assert all(torch.equal(mine[name], theirs[name]) for name in mine)
        batch = pack(*random_documents(3).documents)
        # Where in memory weights lie may change the last bit of a product.
        for mine, theirs in zip(model.score(batch), again.score(batch), strict=True):
            assert torch.allclose(mine.float(), theirs.float(), rtol=1e-5)
        assert (tmp_path / trunk / "model.safetensors").is_file()


def test_positions_that_cannot_slide_are_refused(sllm):
    with pytest.raises(ModelError, match=r"set vae\.block=llama"):
        sllm(decoder_window=8)


def test_a_latent_that_is_added_nowhere_is_refused(sllm):
    with pytest.raises(ModelError, match=r"set vae\.output_latent_scale"):
        sllm(conditioning="none")


def test_too_few_positions_are_refused(sllm):
    with pytest.raises(ModelError, match="too few"):
        sllm("opt", context_sentences=128)


@pytest.mark.parametrize("part", ["vae", "sllm"])
def test_the_kl_term_is_that_of_the_encoders_gaussians(sllm, random_documents, part):
    model, free = (sllm(kl_weight=0.7, free_bits=floor) for floor in (0.0, 1e9))
    free.load_state_dict(model.state_dict())
    batch = pack(*random_documents(3, seed=6).documents)
    posterior = model.vae.posterior(batch)
    gaussian = torch.distributions.Normal(posterior.mean_SH, (0.5 * posterior.log_variance_SH).exp())
    kl = torch.distributions.kl_divergence(gaussian, torch.distributions.Normal(0.0, 1.0)).sum()
    chosen, without = ((each.vae if part == "vae" else each).eval() for each in (model, free))
    sums = chosen(batch)
    assert torch.allclose(sums["kl"], kl, rtol=1e-10)
    assert torch.allclose(sums["objective"], sums["nll"] + 0.7 * kl, rtol=1e-10)
    # Below the floor it costs the same whatever it is.
    without(batch)["objective"].backward()
    assert free.vae.log_variance.weight.grad is None or not free.vae.log_variance.weight.grad.any()
    torch.manual_seed(1)
    noisy = chosen.train()(batch)["nll"]
    torch.manual_seed(2)
    assert chosen(batch)["nll"] != noisy != sums["nll"]


def test_ablations_change_the_loss(sllm, random_documents):
    model = sllm()
    batch = pack(*random_documents(3).documents)
    plain, zeroed, oracle = (score(model, batch, kind)[0] for kind in ("none", "zeroed", "oracle"))
    shuffled = score(model, batch, "shuffled", pack(*random_documents(3, seed=1).documents))[0]
    assert not any(torch.equal(plain, replaced) for replaced in (zeroed, oracle, shuffled))


@pytest.mark.parametrize("conditioning", ["cross_attention", "prefix"])
def test_activation_checkpointing_runs_each_block_again(sllm, random_documents, conditioning):
    model = sllm(conditioning=conditioning).train()
    batch, gradients, runs = pack(*random_documents(3).documents), [], []
    for block in (*model.vae.encoder, *model.vae.decoder):
        block.feed_forward.register_forward_hook(lambda module, *_: runs.append(module))
    for times in (1, 2):
        model.zero_grad()
        runs.clear()
        model(batch)["objective"].backward()
        assert len(runs) == times * len(set(runs)) == times * 2 * model.vae.config.num_layers
        gradients.append([p.grad for p in model.parameters()])
        model.activation_checkpointing_enable({"use_reentrant": False})
    assert all(torch.equal(a, b) for a, b in zip(*gradients, strict=True))


def test_frozen_vae_gets_no_gradient(sllm, random_documents):
    model = sllm().train()
    model.config.freeze_vae = True
    model.vae.requires_grad_(False)
    model(pack(*random_documents(3).documents))["objective"].backward()
    assert all(p.grad is None for p in model.vae.parameters())
    assert model.start_H.grad is not None
    assert model.stop_head.weight.grad is not None
