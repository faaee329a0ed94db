"""Which files of the working folder are sent."""

from infra.submission import submit as submission
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
]


def test_hidden_files_keys_and_credentials_are_never_sent(tmp_path):
    import zipfile

    from ray._private.runtime_env.packaging import _zip_files

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
    sent = submission._runtime_env(folder)
    _zip_files(str(folder), sent["excludes"], str(tmp_path / "p.zip"), include_gitignore=True)
    with zipfile.ZipFile(tmp_path / "p.zip") as package:
        names = {name for name in package.namelist() if not name.endswith("/")}
    assert names == set(PLAIN_FILES)
