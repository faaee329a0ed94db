import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.redaction import is_secret, redacted, redacted_tree

SECRETS = [
    ("postgresql://user:S3CRET@host/db", "postgresql://***@host/db"),
    ("http://user:S3C@RET@host/a", "http://***@host/a"),
    ("mysql://user:S3C/RET@host/db", "mysql://***@host/db"),
    ("input 'http://u:S3C'RET@h/a?b=c' cannot be", "input 'http://***@h/a?***' cannot be"),
    ("filecache::s3://key:S3CRET@bucket/a", "filecache::s3://***@bucket/a"),
    ("zip://a.csv::http://u:S3CRET@h/a.zip?sig=S3CRET", "zip://a.csv::http://***@h/a.zip?***"),
    ("https://h/a.jsonl?X-Amz-Signature=S3CRET#7", "https://h/a.jsonl?***#7"),
    ("[http://h/a?sig=S3CRET,http://h/b?x=S3CRET]", "[http://h/a?***,http://h/b?***]"),
    ("http://h/a?S3CRET", "http://h/a?***"),
    ("a.jsonl?X-Amz-Signature=S3CRET", "a.jsonl?X-Amz-Signature=***"),
    ("storage.secret=S3CRET", "storage.secret=***"),
    ("AWS_SECRET_ACCESS_KEY=S3CRET", "AWS_SECRET_ACCESS_KEY=***"),
    ("got {'api_key': 'S3CRET with spaces'}", "got {'api_key': ***}"),
    ("Authorization: Bearer S3CRET.x", "Authorization: Bearer ***"),
    ("bearer S3CRET", "bearer ***"),
]


@pytest.mark.parametrize(("text", "shown"), SECRETS)
def test_a_secret_is_never_shown(text, shown):
    assert redacted(text) == shown and is_secret(text) == (text != "http://h/a?S3CRET")
    assert redacted(shown) == shown  # again changes nothing


@pytest.mark.parametrize(
    "text",
    [
        *(
            "s3://bucket/part-?.jsonl",
            "http://h:8080/a@b.txt",
            "sqlite:////runs/mlflow.db",
            "a@b.c http://h/x",
        ),
        *("abfs://container@account.dfs.core.windows.net/a", "sftp://me@host/a", "memory://a/b"),
        *("tokens=5 tokenizer=gpt2 num_tokens: 3", "bos_token='<s>'", "unexpected token: '}'", "monkey=x"),
        *("nll_per_token: 3.2", "train/nll_per_token=3.2", "Bearer authentication required"),
    ],
)
def test_what_is_no_secret_stays(text):
    assert redacted(text) == text and not is_secret(text)


def test_a_query_is_dropped_though_it_is_no_secret():
    assert redacted("(http://h/a?download=true).") == "(http://h/a?***)."
    assert not is_secret("(http://h/a?download=true).")


def test_a_tree_is_redacted_by_its_keys_too():
    tree = {
        "inputs": ["s3://bucket/a", "https://host/a?sig=abc&x=1"],
        "storage": {"secret": "s", "api_key": "k", "accountKey": "k", "num_tokens": 3, "password": None},
        "config": {"eos_token": "</s>", "key": "v", "hf_token": ["t"]},
    }
    assert redacted_tree(tree) == {
        "inputs": ["s3://bucket/a", "https://host/a?***"],
        "storage": {
            "secret": "***",
            "api_key": "***",
            "accountKey": "***",
            "num_tokens": 3,
            "password": None,
        },
        "config": {"eos_token": "</s>", "key": "v", "hf_token": ["***"]},
    }


@pytest.mark.parametrize(
    ("text", "secret"),
    [
        *(("storage.secret=${A}", False), ("api_key: ${A}\n", False), ("http://u:${A}@h/a", False)),
        *(("http://${A}@h/a", False), ("http://${A}:${B}@h/a", False), ("[http://h/a?sig=${A}]", False)),
        *(("http://h/a?sig=${A}&token='${B}'", False), ("http://h/a?sig=${A}&token=S3CRET", True)),
        *(
            ("http://h/a?sig=${A}S3CRET", True),
            ("http://${A}:S3CRET@h/a", True),
            ("key=${A} password=S", True),
        ),
    ],
)
def test_a_variable_in_place_of_a_secret_is_no_secret(text, secret):
    assert is_secret(text) == secret


words = st.text("abcXYZ019", min_size=1, max_size=12)


@given(words, st.text("abcXYZ019-_.~%+!$&()*,;='@:", min_size=8, max_size=20), words, words)
def test_no_password_and_no_signature_of_a_url_is_left(user, secret, host, file):
    shown = redacted(
        f"see http://{user}:{secret}@{host}.org/{file}?X-Amz-Signature=Q{secret.replace(',', '')} now"
    )
    assert shown == f"see http://***@{host}.org/{file}?*** now" or secret not in shown


@pytest.mark.parametrize(
    "unit",
    [
        "http://",
        "http://a?,",
        "http://u:p@",
        "a.",
        "token",
        "token ",
        "?a=",
        "password=",
        "eyJaaaaaaaa.",
        "://${A}:",
        "=${A}",
    ],
)
def test_the_time_is_linear(unit):
    start = time.monotonic()
    redacted(unit * (200_000 // len(unit)))
    is_secret(unit * (200_000 // len(unit)))
    assert time.monotonic() - start < 5


def test_no_secret_of_a_signed_url_is_written_and_a_fresh_signature_finds_the_finished_run(
    tmp_path, tracking_uri, capsys
):
    """The whole of a job: output folder, tracking store, and what is printed."""
    import http.server
    import threading

    from jobs import prepare
    from pipeline.config import load_config

    (tmp_path / "web").mkdir()
    (tmp_path / "web" / "a.jsonl").write_text('{"id": "1", "text": "One. Two."}\nbroken\n')

    class Handler(http.server.SimpleHTTPRequestHandler):
        def __init__(self, *arguments):
            super().__init__(*arguments, directory=str(tmp_path / "web"))

        def log_message(self, *arguments):
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    settings = [
        *(f"output={tmp_path}/out", f"tracking.uri={tracking_uri}", "tokenizer.vocab_size=270"),
        "data.max_rejected_fraction=1",
    ]
    records = [
        prepare.run(
            load_config(
                None,
                [
                    f"data.inputs=http://127.0.0.1:{server.server_port}/a.jsonl?X-Amz-Signature={secret}",
                    *settings,
                ],
            )
        )
        for secret in ("hunter2first", "hunter2second")
    ]
    server.shutdown()
    server.server_close()
    assert records[0].run_id == records[1].run_id
    printed = capsys.readouterr()
    assert "reuse" in printed.err and "hunter2" not in printed.out + printed.err
    written = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert len(written) > 5
    assert [path for path in written if b"hunter2" in path.read_bytes()] == []
