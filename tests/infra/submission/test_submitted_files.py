"""Which files of the working folder are sent."""

import zipfile

from infra.submission.package import write_package
from infra.submission.submitted_files import submitted_files

SECRET_FILES = [
    *(
        ".env",
        ".ssh/id_ed25519",
        "sub/.env",
        "sub/server.pem",
        "id_rsa",
        "deep/er/tls.key",
        "credentials.json",
    ),
    *(
        "gcp-service-account.json",
        ".aws/credentials",
        ".netrc",
        "prod.env",
        "my_secrets.yaml",
        "api_token.txt",
    ),
    *("SERVER.PEM", "Secrets.JSON", "credentials.csv", "sub/kubeconfig", "_netrc", "prod.tfvars", "key.asc"),
    *("secrets/plain.txt", "AuthKey.p8", "model.gguf", "pytorch_model.bin", "last.ckpt", "corpus.jsonl.xz"),
]


PLAIN_FILES = [
    *("my_segmenter.py", "sub/rules.py", "config.yaml", "tokenizer.json", "secret_sentences.py", "words.txt"),
    *("patterns.jsonl", "keyboard.py", "tokens.py", "segmenters/learned/weights/learned_v1.safetensors"),
    # A checkout of sllm, whose packages are sent.
    *("segmenters/__init__.py", "pipeline/__init__.py", "pipeline/lineage.py", "infra/__init__.py"),
    *("jobs/__init__.py", "jobs/verbs.py"),
]


def test_hidden_files_keys_and_credentials_are_never_sent(tmp_path):
    folder = tmp_path / "work"
    for name in (*SECRET_FILES, *PLAIN_FILES):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(name)
    (folder / ".gitignore").write_text("!.env\n!*.pem\n")
    (folder / "sub" / ".gitignore").write_text("!.env\n!server.pem\n")
    (tmp_path / "outside").mkdir()
    (tmp_path / "outside" / "private.py").write_text("x")
    (folder / "link").symlink_to("../outside")
    (folder / "a link [1]").symlink_to("../outside/private.py")
    assert list(submitted_files(folder)) == sorted(PLAIN_FILES)
    write_package(folder, "output: /x\n", tmp_path / "p.zip")
    with zipfile.ZipFile(tmp_path / "p.zip") as package:
        assert set(package.namelist()) == {*PLAIN_FILES, "sllm-submitted.yaml"}
