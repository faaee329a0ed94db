"""Checkpoints, model folders, tokenizers and weights of the learned segmenter."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import AutoConfig, AutoModelForCausalLM

import segmenters
from infra.checkpoints.folder import CheckpointFolder
from pipeline.config import TrunkConfig
from pipeline.models.saved import saved_model
from pipeline.models.sentence_vae import SentenceVae, SentenceVaeConfig
from pipeline.models.token_lm import load_causal_lm
from pipeline.models.trunk import pretrained_config
from pipeline.stream.order import StreamPosition, StreamState
from pipeline.tokenization.tokenizer import Tokenizer
from pipeline.training.checkpoint import (
    AVERAGE,
    MOMENTS,
    STATE_FILE,
    WEIGHT,
    Checkpoint,
    Part,
    snapshot,
    write_state,
)
from pipeline.training.loop import Progress
from segmenters.learned.weights_file import load_weights
from tests.fuzz.mutations import mutated, mutated_tree
from tests.pipeline.training.small_checkpoint import write_checksums


def damaged(rng, files: dict[str, bytes], most: int = 1) -> dict[str, bytes]:
    """The files with one changed, or gone."""
    files = dict(files)
    for _ in range(rng.randint(1, most)):
        name = rng.choice(sorted(files))
        if rng.random() < 0.05:
            del files[name]
            break
        if name.endswith(".json") and rng.random() < 0.7:
            files[name] = json.dumps(mutated_tree(rng, json.loads(files[name]))).encode()
        elif name.endswith(".safetensors") and rng.random() < 0.5:
            files[name] = other_header(rng, files[name])
        else:
            files[name] = mutated(rng, [files[name]])
    return files


def other_header(rng, content: bytes) -> bytes:
    size = int.from_bytes(content[:8], "little")
    header = mutated_tree(rng, json.loads(content[8 : 8 + size]))
    encoded = json.dumps(header).encode()
    return len(encoded).to_bytes(8, "little") + encoded + content[8 + size :]


def put(folder: Path, files: dict[str, bytes]) -> None:
    folder.mkdir(exist_ok=True)
    for file in folder.iterdir():
        file.unlink()
    for name, content in files.items():
        (folder / name).write_bytes(content)


def read(folder: Path) -> dict[str, bytes]:
    return {file.name: file.read_bytes() for file in folder.iterdir() if file.is_file()}


def test_a_checkpoint_is_read_or_refused(fuzz):
    folder = fuzz.folder / "step-000000001"
    folder.mkdir()
    progress = Progress(3, 100, StreamState((StreamPosition(0, 1, 2, 100),)).as_dict())
    for rank in (1, 0):
        part = Part("layer.weight", (4, 2), 4 * rank, {kind: torch.ones(4) for kind in (WEIGHT, *MOMENTS)})
        tensors = snapshot([part], {"layer.weight": torch.ones(4)}, {})
        write_state(folder, tensors, {**vars(progress), "world_size": 2, "engine": {"step": 3.0}}, rank)
    write_checksums(folder)
    whole = read(folder)

    def check(case):
        files, right_checksums = case
        put(folder, files)
        if right_checksums:  # else they tell, and nothing else is tried
            write_checksums(folder)
        with CheckpointFolder(str(fuzz.folder)).newest() as found:
            assert found in (None, folder)
        checkpoint = Checkpoint(folder)
        assert isinstance(checkpoint.state["step"], int)
        for kind in (WEIGHT, *MOMENTS, *([AVERAGE] if checkpoint.has_average else [])):
            assert checkpoint.read(kind, "layer.weight", 0, 8).shape == (8,)
        StreamState.from_dict(checkpoint.state.get("stream"))

    fuzz("checkpoint", lambda rng: (damaged(rng, whole), rng.random() < 0.7), check)
    assert STATE_FILE in whole


def test_a_model_folder_is_read_or_refused(fuzz):
    torch.manual_seed(0)
    options = {"vocab_size": 20, "hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 2}
    lm = AutoModelForCausalLM.from_config(AutoConfig.for_model("gpt2", n_positions=16, n_inner=8, **options))
    vae = SentenceVae(SentenceVaeConfig(vocab_size=20, hidden_size=8, num_layers=1, max_sentence_tokens=8))
    whole = {}
    for name, model in (("lm", lm), ("vae", vae)):
        model.save_pretrained(fuzz.folder / name)
        whole[name] = read(fuzz.folder / name)

    def make(rng):
        name = rng.choice(sorted(whole))
        return name, damaged(rng, whole[name])

    def check(case):
        name, files = case
        folder = fuzz.folder / name
        put(folder, files)
        if name == "lm":
            pretrained_config(str(folder), TrunkConfig())
            load_causal_lm(str(folder))
        else:
            saved_model(str(folder), SentenceVae, "vae")

    fuzz("model", make, check)


def test_a_tokenizer_is_read_or_refused(fuzz):
    folder = fuzz.folder / "tokenizer"
    tokenizer = Tokenizer.train(["One two three. " * 9, "été"], 280)
    tokenizer.save(folder)
    whole = read(folder)
    text = "One two été."

    def check(files):
        put(folder, files)
        found = Tokenizer.load(str(folder))
        assert 0 <= max(found.bos_id, found.eos_id) < found.vocab_size and found.digest
        (encoded,) = found.encode([text])
        assert len(encoded.ids) == len(encoded.ends) and (np.diff(encoded.ends) >= 0).all()

    fuzz("tokenizer", lambda rng: damaged(rng, whole), check)


def test_weights_of_a_segmenter_are_read_or_refused(fuzz):
    shipped = segmenters.load("learned_v1")
    file = fuzz.folder / "weights.safetensors"
    from segmenters.learned.weights_file import SHIPPED_WEIGHTS

    whole = SHIPPED_WEIGHTS.read_bytes()
    text = "One two. three Four\n\nfive six! seven"

    def make(rng):
        return other_header(rng, whole) if rng.random() < 0.7 else mutated(rng, [whole])

    def check(content):
        file.write_bytes(content)
        load_weights.cache_clear()
        ends = segmenters.load("learned_v1", weights=str(file)).split([text])[0]
        assert ends[-1] == len(text)

    try:
        fuzz("segmenter weights", make, check)
    finally:
        load_weights.cache_clear()
    assert shipped.split([text])


@pytest.fixture(autouse=True)
def _quiet():
    import transformers

    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
