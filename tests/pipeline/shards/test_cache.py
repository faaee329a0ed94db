"""Shards at a URL: fetched, verified, kept within bounds, and read like local ones."""

import functools
import http.server
import json
import threading
import uuid
from concurrent.futures import wait
from pathlib import Path

import fsspec
import numpy as np
import pytest

import pipeline.shards.cache
from jobs.prepare import prepare
from jobs.runner.training import shards_artifact
from pipeline.config import StreamConfig, load_config
from pipeline.errors import ConfigError, ShardError
from pipeline.shards.reading import mixing_weights, open_shards
from pipeline.training.task import build_task

TRAIN = "train"
TEXTS = [f"Document {i}. It has {i} more sentences. " + "And one. " * i for i in range(30)]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Shards of 30 documents."""
    root = tmp_path_factory.mktemp("shards")
    (root / "a.jsonl").write_text("".join(json.dumps({"text": text}) + "\n" for text in TEXTS))
    overrides = [f"data.inputs=[{root}/a.jsonl]", "launcher=local", "prepare.num_workers=1"]
    overrides += ["prepare.work_unit_bytes=1000", "tokenizer.vocab_size=300"]
    prepare(load_config(None, overrides), str(root / "out"))
    return root / "out"


@pytest.fixture
def url(folder: Path):
    """The shards in a store of fsspec's own memory."""
    store = fsspec.filesystem("memory")
    root = f"/{uuid.uuid4().hex}"
    store.put(str(folder), root, recursive=True)
    return f"memory:/{root}"


@pytest.fixture
def options(tmp_path: Path) -> StreamConfig:
    return StreamConfig(cache=str(tmp_path / "cache"))


def tokens_of(shards, split=TRAIN):
    documents = shards.documents(split)
    return documents.gather(documents.token_starts_N1[:-1], documents.token_starts_N1[1:])


def test_they_are_the_local_ones(folder, url, options):
    local, remote = open_shards(str(folder)), open_shards(url, options)
    remote.fetch_ahead(TRAIN, range(len(remote.records(TRAIN))))
    assert np.array_equal(tokens_of(remote), tokens_of(local))
    assert remote.tokenizer().digest == local.tokenizer().digest
    assert shards_artifact(url, options).digest == shards_artifact(str(folder), options).digest


def test_what_is_in_the_cache_is_not_fetched_again(url, options, monkeypatch):
    tokens = tokens_of(open_shards(url, options))
    remote = open_shards(url, options)
    monkeypatch.setattr(remote.cache._remote, "get_file", lambda *_: pytest.fail("fetched again"))
    assert np.array_equal(tokens_of(remote), tokens)


def test_a_damaged_copy_is_fetched_again(url, options):
    tokens = tokens_of(open_shards(url, options))
    copy = next(Path(options.cache).glob("*.arrow"))
    content = bytearray(copy.read_bytes())
    content[len(content) // 2] ^= 1
    copy.write_bytes(content)
    assert np.array_equal(tokens_of(open_shards(url, options)), tokens)


def test_a_flipped_bit_at_the_source_is_named(url, options):
    store, path = fsspec.core.url_to_fs(f"{url}/train-00001.arrow")
    content = bytearray(store.cat_file(path))
    content[len(content) // 2] ^= 1
    store.pipe_file(path, bytes(content))
    with pytest.raises(ShardError, match=r"train-00001.arrow is damaged: its checksum"):
        tokens_of(open_shards(url, options))
    assert not list(Path(options.cache).glob(".*"))


def test_missing_files_are_named(url, options):
    with pytest.raises(ShardError, match=r"there is no .*nothing/manifest.json"):
        open_shards(f"{url}/nothing", options)
    store, path = fsspec.core.url_to_fs(f"{url}/train-00001.arrow")
    store.rm_file(path)
    with pytest.raises(ShardError, match=r"there is no .*train-00001.arrow"):
        tokens_of(open_shards(url, options))


def test_a_connection_that_breaks_is_tried_again(url, options, monkeypatch):
    monkeypatch.setattr(pipeline.shards.cache, "RETRY_SECONDS", 0)
    remote = open_shards(url, options)
    get_file, left = remote.cache._remote.get_file, [2]

    def flaky(*arguments):
        if left[0]:
            left[0] -= 1
            raise OSError("connection reset")
        get_file(*arguments)

    monkeypatch.setattr(remote.cache._remote, "get_file", flaky)
    assert len(remote.documents(TRAIN, [0]).num_bytes_N) > 0
    left[0] = 100
    with pytest.raises(
        ShardError, match=r"train-00001.arrow cannot be fetched \(3 attempts\): connection reset"
    ):
        remote.documents(TRAIN, [1])


def test_the_cache_keeps_to_its_bound(url, options):
    sizes = [record.file_bytes for record in open_shards(url, options).records(TRAIN)]
    assert len(sizes) > 2
    bound = options.model_copy(update={"cache_bytes": 2 * max(sizes)})
    remote = open_shards(url, bound)
    for index in [*range(len(sizes)), 0]:
        remote.documents(TRAIN, [index])
        remote.fetch_ahead(TRAIN, [(index + 1) % len(sizes)])
        wait(remote.cache._coming.values())  # a copy may go while the next one comes
        kept = sum(path.stat().st_size for path in Path(bound.cache).glob("*.arrow"))
        assert kept <= bound.cache_bytes
    with pytest.raises(ShardError, match=r"raise it or lower stream.block_tokens"):
        remote.documents(TRAIN)


def test_over_http_a_whole_task(folder, tmp_path):
    class Quiet(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *_):
            pass

    server = http.server.ThreadingHTTPServer(
        ("127.0.0.1", 0), functools.partial(Quiet, directory=str(folder))
    )
    threading.Thread(target=server.serve_forever, daemon=True).start()
    url = f"http://127.0.0.1:{server.server_port}"
    try:
        task = build_task(
            "train-lm", load_config(None, [f"shards={url}", f"stream.cache={tmp_path / 'cache'}"])
        )
        corpus = task.train[0]
        source = corpus.open(np.arange(len(corpus.shard_tokens)))
        assert source.tokens_W.sum() == open_shards(str(folder)).manifest.totals[TRAIN].tokens
    finally:
        server.shutdown()
        server.server_close()


def test_only_shards_of_one_tokenizer_are_mixed(folder):
    one = open_shards(str(folder))
    assert mixing_weights([one, one], (3, 1)) == [3, 1]
    assert mixing_weights([one, one], None) == [one.manifest.totals[TRAIN].tokens] * 2
    with pytest.raises(ConfigError, match="1 weights for 2 shards"):
        mixing_weights([one, one], (3,))


def test_files_of_others_in_the_cache_stay(url, options):
    folder = Path(options.cache)
    folder.mkdir(parents=True)
    for name in ("mine.arrow", f"{'a' * 63}.arrow", "notes.txt"):
        (folder / name).write_bytes(b"x" * 2**20)
    (folder / f"{'b' * 64}.arrow").symlink_to("mine.arrow")
    before = {path.name for path in folder.iterdir()}
    sizes = [record.file_bytes for record in open_shards(url, options).records(TRAIN)]
    remote = open_shards(url, options.model_copy(update={"cache_bytes": max(sizes)}))
    for index in range(len(sizes)):
        remote.documents(TRAIN, [index])
    assert before <= {path.name for path in folder.iterdir()}
