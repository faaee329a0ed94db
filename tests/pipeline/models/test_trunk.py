"""Every family of trunk: no future, weights from its causal language model, which of them are trained, LoRA."""

import copy

import numpy as np
import pytest
import torch
from transformers import AutoModel, AutoModelForCausalLM

from pipeline.config import SllmConfig, TrunkConfig
from pipeline.errors import ConfigError, ModelError
from pipeline.models.trunk import (
    choose_trained,
    layers_of,
    load_layers,
    merge_adapters,
    new_config,
    pretrained_config,
    token_vectors,
)
from pipeline.stream.batches import SentenceBatch
from pipeline.training.task import Task

TRUNKS = ["opt", "opt-projected", "llama", "qwen2", "qwen3", "mistral", "gpt2", "gpt_neox"]
CHOICES = ["all", "none", "ends", "lora"]


def batch(documents=4, seed=0):
    rng = np.random.default_rng(seed)
    sentences = rng.integers(2, 8, documents)
    lengths = rng.integers(1, 9, sentences.sum())
    return SentenceBatch.pack(rng.integers(3, 50, lengths.sum()), lengths, sentences, bos_id=1, eos_id=2)


@pytest.fixture
def causal_lm(trunk_config):
    def build(name, **options):
        torch.manual_seed(1)
        model = AutoModelForCausalLM.from_config(trunk_config(name, **options))
        with torch.no_grad():  # no bias stays zero, no norm one: each weight counts
            for parameter in model.parameters():
                parameter.normal_(std=0.1)
        return model.double().eval()

    return build


@pytest.mark.parametrize("trunk", TRUNKS)
def test_a_sentence_sees_nothing_after_it(sllm, trunk):
    model = sllm(trunk)
    given = batch()
    with torch.no_grad():
        latents_SH = model.vae.encode(given)
        before_SH, _ = model.predict(latents_SH, given)
        for last in (0, 1, len(latents_SH) - 1):
            changed_SH = latents_SH.clone()
            changed_SH[last] = changed_SH[last].flip(0)  # a constant added would be lost in a LayerNorm
            after_SH, _ = model.predict(changed_SH, given)
            later_S = (given.window_S == given.window_S[last]) & (given.index_S > given.index_S[last])
            assert torch.equal(after_SH[~later_S], before_SH[~later_S])
            assert (after_SH[later_S] != before_SH[later_S]).any(1).all()


@pytest.mark.parametrize("trunk", TRUNKS)
def test_weights_of_the_causal_language_model_do_the_same_work(sllm, causal_lm, trunk):
    source = causal_lm(trunk)
    model = sllm(trunk)
    load_layers(model.trunk, source)
    ids = torch.randint(3, 50, (2, 9), generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        hidden = model.trunk(inputs_embeds=token_vectors(source)[ids], use_cache=False).last_hidden_state
        if trunk == "opt-projected":
            hidden = source.model.decoder.project_out(hidden)
        torch.testing.assert_close(source.get_output_embeddings()(hidden), source(input_ids=ids).logits)


@pytest.mark.parametrize(
    ("source", "options", "message"),
    [
        ("opt", {}, "lacks the trunk's weights"),
        ("llama", {"num_hidden_layers": 3}, "has more than the trunk's weights: layers.2"),
        ("llama", {"num_hidden_layers": 1}, "lacks the trunk's weights: layers.1"),
        ("llama", {"intermediate_size": 40}, "not of the trunk's shape"),
    ],
)
def test_a_model_of_another_shape_is_refused(sllm, causal_lm, source, options, message):
    with pytest.raises(ModelError, match=message):
        load_layers(sllm("llama").trunk, causal_lm(source, **options))


@pytest.mark.parametrize("trunk", TRUNKS)
def test_all_that_is_trained_gets_a_gradient_and_a_saved_model_is_the_same(sllm, trunk, tmp_path):
    model = sllm(trunk).float().train()
    model(batch())["objective"].backward()
    assert [name for name, p in model.named_parameters() if p.grad is None or not p.grad.any()] == []
    model.save_pretrained(tmp_path)
    again = AutoModel.from_pretrained(tmp_path).eval()
    for mine, theirs in zip(model.eval().score(batch()), again.score(batch()), strict=True):
        assert torch.equal(mine, theirs)


def trained_layers(model):
    return [any(p.requires_grad for p in layer.parameters()) for layer in layers_of(model.trunk)]


@pytest.mark.parametrize("trunk", TRUNKS)
@pytest.mark.parametrize("choice", CHOICES)
def test_only_what_is_chosen_is_trained(sllm, trunk, choice):
    model = sllm(trunk, num_hidden_layers=5).float()
    choose_trained(model.trunk, SllmConfig(train_trunk=choice, train_trunk_end_layers=2))
    model.train()(batch())["objective"].backward()
    with_gradient = {name for name, p in model.named_parameters() if p.grad is not None}
    assert with_gradient == {name for name, p in model.named_parameters() if p.requires_grad}
    around = {name for name, _ in model.named_parameters() if not name.startswith("trunk.")}
    assert around <= with_gradient
    in_trunk = with_gradient - around
    if choice in ("none", "ends"):
        ends = [True, True, False, True, True]
        assert trained_layers(model) == (ends if choice == "ends" else [False] * 5)
        assert all(".layers." in name or ".h." in name for name in in_trunk)
    elif choice == "lora":
        assert in_trunk and all(".lora_" in name for name in in_trunk)
        assert all(trained_layers(model))
    else:
        assert in_trunk == {name for name, _ in model.named_parameters()} - around


def test_ends_that_leave_nothing_between_them_are_refused(sllm):
    with pytest.raises(ConfigError, match="are all 2 layers"):
        choose_trained(sllm().trunk, SllmConfig(train_trunk="ends", train_trunk_end_layers=1))


class NoTokenizer:
    def save(self, folder):
        pass


@pytest.mark.parametrize("trunk", TRUNKS)
def test_a_model_trained_with_lora_is_saved_whole(sllm, trunk, tmp_path):
    model = sllm(trunk).float()
    plain = copy.deepcopy(model)
    torch.manual_seed(0)
    choose_trained(model.trunk, SllmConfig(train_trunk="lora", lora_rank=2))
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if ".lora_B." in name:
                parameter.normal_()
    weights = dict(model.named_parameters())
    Task(model, model, NoTokenizer(), [], None).save(tmp_path, weights)
    again = AutoModel.from_pretrained(tmp_path).eval()
    assert again.state_dict().keys() == plain.state_dict().keys()
    with torch.no_grad():
        expected, found, before = (m.eval().score(batch())[0] for m in (model, again, plain))
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4)
    assert (found - before).abs().max() > 1e-2


def test_without_adapters_weights_stay_as_they_are(sllm):
    weights = dict(sllm().named_parameters())
    assert merge_adapters(sllm(), weights) == weights


def test_lora_without_peft_says_what_to_install(sllm, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "peft", None)
    with pytest.raises(ConfigError, match=r"sllm\[lora\]"):
        choose_trained(sllm().trunk, SllmConfig(train_trunk="lora"))


def test_a_pretrained_model_must_be_what_the_configuration_says(causal_lm, tmp_path):
    causal_lm("opt").save_pretrained(tmp_path)
    said = {"model_type": "opt", "hidden_size": 32}
    found = pretrained_config(str(tmp_path), TrunkConfig(path=str(tmp_path), config=said))
    assert found.ffn_dim == 48
    assert pretrained_config(str(tmp_path), TrunkConfig(path=str(tmp_path))).ffn_dim == 48
    with pytest.raises(ModelError, match=r"has ffn_dim 48, trunk\.config says 50"):
        pretrained_config(str(tmp_path), TrunkConfig(path=str(tmp_path), config={**said, "ffn_dim": 50}))
    with pytest.raises(ModelError, match="there is no model at"):
        pretrained_config(str(tmp_path / "nowhere"), TrunkConfig())


def test_a_description_is_compared_as_the_family_keeps_it(tmp_path):
    said = {"model_type": "llama", "hidden_size": 32, "num_attention_heads": 4, "num_hidden_layers": 2}
    said |= {"num_key_value_heads": 4, "intermediate_size": 48, "vocab_size": 50, "rope_theta": 5000.0}
    new_config(TrunkConfig(config=said), max_positions=9).save_pretrained(tmp_path)
    described = TrunkConfig(path=str(tmp_path), config=said)
    assert pretrained_config(str(tmp_path), described).hidden_size == 32
    with pytest.raises(ModelError, match="has rope_parameters"):
        pretrained_config(str(tmp_path), TrunkConfig(path=str(tmp_path), config=said | {"rope_theta": 9.0}))


@pytest.mark.parametrize(
    ("options", "near"),
    [
        ({"model_type": "llama", "hiden_size": 16}, "hidden_size"),
        ({"model_type": "llama", "num_layers": 1}, "num_hidden_layers"),
        ({"model_type": "gpt2", "n_layers": 1}, "n_layer"),
        ({"model_type": "opt", "ffn_dims": 16}, "ffn_dim"),
    ],
)
def test_a_mistyped_option_is_refused(options, near):
    """Else the model would have the family's own size."""
    with pytest.raises(ModelError, match=rf"trunk\.config\.{list(options)[1]} is no option of .*{near}"):
        new_config(TrunkConfig(config=options), max_positions=64)
    known = {
        "model_type": "llama",
        "rope_theta": 1e4,
        "attn_implementation": "eager",
        "torch_dtype": "float32",
    }
    assert new_config(TrunkConfig(config=known), max_positions=64).model_type == "llama"
