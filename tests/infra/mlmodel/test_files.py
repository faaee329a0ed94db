"""The folder of a trained model is an MLflow model: loaded, run and served from the folder alone."""

import contextlib
import json
import os
import shutil
import subprocess
import sys
import time
import urllib.request
import warnings
from pathlib import Path

import pytest
import requests
import torch

from infra.mlmodel.files import write_mlmodel
from infra.storage import Folder
from pipeline.config import GenerateConfig
from pipeline.generation.generate import pack
from pipeline.generation.saved_text_model import load_text_model
from pipeline.generation.text import encode_prompt, generate_text
from pipeline.models.saved import saved_model
from pipeline.models.sentence_vae import SentenceVae
from pipeline.models.sllm import Sllm
from pipeline.models.token_lm import load_causal_lm
from pipeline.output_files import written_files
from pipeline.tokenization.tokenizer import Tokenizer
from tests.ports import free_ports

KINDS = ["lm", "vae", "sllm"]
COLUMN = {"lm": "prompt", "vae": "sentences", "sllm": "prompt"}
TEXTS = [
    "The dog sleeps. A fox runs over it! Does it",
    "",
    "One sentence.",
    "No. No. Yes, and no; why? Because.",
]
ADDED = {"MLmodel", "requirements.txt", "python_env.yaml", "input_example.json", "serving_input_example.json"}


@pytest.mark.parametrize("kind", KINDS)
def test_the_files_are_those_of_a_model_and_always_the_same(models, kind):
    folder = Folder(str(models / kind))
    before = {name: folder.read(name) for name in folder.names()}
    assert set(written_files(models / kind, "model")) >= ADDED
    write_mlmodel(str(models / kind))
    assert {name: folder.read(name) for name in folder.names()} == before


@pytest.mark.parametrize("kind", KINDS)
def test_mlflow_reads_signature_example_and_requirements(models, kind, pyfunc):
    loaded = pyfunc.load_model(str(models / kind))
    meta = loaded.metadata
    assert meta.get_input_schema().input_names() == [COLUMN[kind]]
    assert meta.get_output_schema().input_names() == ["text"]
    assert {"temperature", "top_p", "seed"} <= {one.name for one in meta.get_params_schema().params}
    assert list(loaded.predict(loaded.input_example).columns) == ["text"]
    assert "sllm==" in (models / kind / "requirements.txt").read_text()
    assert meta.model_uuid is None and meta.flavors["python_function"].get("code") is None


def test_no_code_in_the_folder_is_run(models, pyfunc, tmp_path, monkeypatch):
    shutil.copytree(models / "sllm", tmp_path / "sllm")
    for name in ("infra", "modeling_sllm", "configuration_sllm"):
        (tmp_path / "sllm" / f"{name}.py").write_text("raise SystemExit('the code in the folder was run')")
    monkeypatch.chdir(tmp_path / "sllm")
    assert len(pyfunc.load_model(".").predict([{"prompt": "The dog"}])) == 1


def test_a_model_with_code_of_its_own_is_left_as_it_is(models, tmp_path):
    for name in ("config.json", "tokenizer.json"):
        (tmp_path / name).write_bytes((models / "lm" / name).read_bytes())
    tree = json.loads((tmp_path / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps({**tree, "auto_map": {"AutoModel": "modeling_x.X"}}))
    write_mlmodel(str(tmp_path))
    assert {path.name for path in tmp_path.iterdir()} == {"config.json", "tokenizer.json"}


@pytest.mark.parametrize("kind", KINDS)
def test_texts_side_by_side_are_those_of_one_at_a_time(models, kind):
    model = load_text_model(str(models / kind))
    config = GenerateConfig(max_tokens=60, max_sentences=3)
    together = model.texts(TEXTS, config)
    assert together == [model.texts([text], config)[0] for text in TEXTS]
    assert len(set(together)) > 1
    assert model.texts([], config) == []


def test_a_prompt_is_continued_as_generate_continues_it(models):
    path = str(models / "sllm")
    model, tokenizer = saved_model(path, Sllm, "sllm"), Tokenizer.load(path)
    for temperature in (0.0, 1.0):
        config = GenerateConfig(prompt=TEXTS[0], temperature=temperature, seed=5, max_sentences=4)
        encoded = encode_prompt(model.vae.config, tokenizer, config.prompt)
        said = "".join(sentence.text for sentence in generate_text(model, tokenizer, encoded, config))
        assert load_text_model(path).texts([config.prompt], config) == [said]


def test_the_token_level_model_continues_with_its_likeliest_tokens(models):
    path = str(models / "lm")
    tokenizer, model = Tokenizer.load(path), load_causal_lm(path).eval()
    ids = tokenizer.encode([TEXTS[0]])[0].ids.tolist()
    told = list(ids)
    for _ in range(12):
        with torch.no_grad():
            logits = model(input_ids=torch.tensor([[tokenizer.bos_id, *told]])).logits[0, -1]
        if tokenizer.bos_id != tokenizer.eos_id:
            logits[tokenizer.bos_id] = -torch.inf
        if (token := int(logits.argmax())) == tokenizer.eos_id:
            break
        told.append(token)
    expected = tokenizer.decode(told)[len(tokenizer.decode(ids)) :]
    assert load_text_model(path).texts(TEXTS[:1], GenerateConfig(max_tokens=12)) == [expected]


def test_sentences_come_back_from_their_latents(models, monkeypatch):
    path = str(models / "vae")
    vae, tokenizer = saved_model(path, SentenceVae, "vae").eval(), Tokenizer.load(path)
    given = encode_prompt(vae.config, tokenizer, TEXTS[0])
    came_back: list[list[int]] = []
    monkeypatch.setattr(Tokenizer, "decode", lambda self, ids: came_back.append(ids) or "")
    load_text_model(path).texts(TEXTS[:1], GenerateConfig())
    (ids,) = came_back
    with torch.no_grad():
        latents_SH = vae.encode(pack(vae.config, [given], vae.device))
    # Cut the tokens again where the model ended its sentences: all of them are the likeliest in one forward pass.
    sentences, start = [], 0
    for latent in range(len(given)):
        for size in range(1, vae.config.max_sentence_tokens + 1):
            tried = [*sentences, ids[start : start + size]]
            batch = pack(vae.config, [tried], vae.device)
            with torch.no_grad():
                hidden_RH = vae.decode_batch(latents_SH[: latent + 1], batch)
                likeliest = vae.head(hidden_RH)
            likeliest[:, vae.config.bos_token_id] = -torch.inf
            is_whole = int(likeliest[-1].argmax()) == vae.config.eos_token_id
            if is_whole or size == vae.config.max_sentence_tokens:
                expected = [*tried[-1], vae.config.eos_token_id][: vae.config.max_sentence_tokens]
                assert likeliest[-size - 1 :].argmax(-1).tolist()[1 : len(expected)] == expected[1:]
                break
        sentences, start = tried, start + size
    assert start == len(ids)


def test_mlflow_models_predict(models, pyfunc, tmp_path):
    from click.testing import CliRunner

    with warnings.catch_warnings(action="ignore"):
        from mlflow.models.cli import predict

        arguments = ["-m", str(models / "vae"), "-i", str(models / "vae" / "serving_input_example.json")]
        arguments += ["-t", "json", "-o", str(tmp_path / "out.json"), "--env-manager", "local"]
        ran = CliRunner().invoke(predict, arguments, catch_exceptions=False)
    assert ran.exit_code == 0, ran.output
    (row,) = json.loads((tmp_path / "out.json").read_text())["predictions"]
    example = json.loads((models / "vae" / "input_example.json").read_text())["data"][0]
    assert [row["text"]] == load_text_model(str(models / "vae")).texts(example, GenerateConfig())


def test_mlflow_models_serve(models, tmp_path):
    (port,) = free_ports(1)
    command = [sys.executable, "-m", "mlflow", "models", "serve", "-m", str(models / "sllm"), "-p", str(port)]
    environment = {**os.environ, "MLFLOW_DISABLE_TELEMETRY": "true", "PYTHONWARNINGS": "ignore"}
    environment["PATH"] = f"{Path(sys.executable).parent}:{environment['PATH']}"  # MLflow starts `uvicorn`
    with (tmp_path / "log").open("wb") as log:
        server = subprocess.Popen(
            [*command, "--env-manager", "local"],
            stdout=log,
            stderr=log,
            env=environment,
            start_new_session=True,
        )
    try:
        until = time.monotonic() + 300
        while not _answers(port):
            assert server.poll() is None and time.monotonic() < until, (tmp_path / "log").read_text()
            time.sleep(0.2)
        params = {"temperature": 0.5, "seed": 3, "max_sentences": 2}
        asked = {"dataframe_records": [{"prompt": TEXTS[0]}], "params": params}
        answer = requests.post(f"http://127.0.0.1:{port}/invocations", json=asked, timeout=60).json()
        expected = load_text_model(str(models / "sllm")).texts(TEXTS[:1], GenerateConfig(**params))
        assert answer["predictions"] == [{"text": expected[0]}]
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(server.pid, 15)
        server.wait(60)


def _answers(port):
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/ping", timeout=5):
            return True
    except OSError:
        return False
