"""Surveys over workers, and those that are kept: never that of a file that changed."""

import gzip
import importlib
import json
import os
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import pytest

from pipeline.config import load_config
from pipeline.corpus import Survey, find_sources, survey_all
from pipeline.corpus import survey as of_file
from pipeline.corpus.opening import streams
from pipeline.corpus.survey import SurveyTask
from pipeline.errors import CorpusError
from pipeline.shards import surveys as module
from pipeline.shards.surveys import SURVEYS_NAME, survey_corpus
from tests.pipeline.shards.test_prepare import MemoryStore

OLD = time.time_ns() - 10**12
LINE = json.dumps({"id": "a", "text": "A text of some words."}).encode() + b"\n"


class Workers:
    """Of this process; each gets what `elsewhere` makes, as another process would."""

    def __init__(self, worker: Any) -> None:
        self._worker = worker

    def map(self, work: Callable[..., Any], items: Iterable[Any]) -> Iterator[tuple[Any, Any]]:
        for item in items:
            yield item, work(self._worker, item)

    def close(self) -> None:
        pass


class Corpus:
    """Files in a folder, and how they are surveyed."""

    def __init__(self, root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.root, self.store, self.asked = root, MemoryStore(), []
        root.mkdir()
        monkeypatch.setattr(module, "SMALL_BYTES", 0)
        monkeypatch.setattr(streams, "SETTLED_NS", -(10**12))  # files are new here; see the test of new files

        def counted(source: Any, *rest: Any) -> Survey:
            self.asked.append(source.name)
            return of_file(source, *rest)

        monkeypatch.setattr(importlib.import_module("pipeline.corpus.survey"), "survey", counted)

    def write(self, name: str, content: bytes) -> None:
        (self.root / name).write_bytes(gzip.compress(content) if name.endswith(".gz") else content)

    def survey(self, *overrides: str, work_unit_bytes: int = 500) -> tuple[list[Survey], list[str]]:
        """The surveys, and the names of the files that were read for them."""
        self.asked.clear()
        arguments = self.arguments(work_unit_bytes, *overrides)
        config, _, sources = arguments[:3]
        made = survey_corpus(*arguments)
        anew = survey_all(sources, config.data, work_unit_bytes)
        assert made == anew
        assert _points(made) == _points(anew)
        return made, sorted(self.asked[: len(self.asked) - len(sources)])

    def arguments(self, work_unit_bytes: int, *overrides: str) -> tuple[Any, ...]:
        """Those of `survey_corpus`."""
        config = load_config(None, [f"data.inputs=[{self.root}]", "prepare.num_workers=3", *overrides])
        sources = find_sources(config.data, lambda line: None)
        return config, config.data, sources, work_unit_bytes, self.store, self.start, _silent

    def start(
        self, here: Any, elsewhere: Callable[[], Any], time_limits: Callable[[SurveyTask], float]
    ) -> Workers:
        return Workers(elsewhere())


def _silent(title: str, num_bytes: int) -> Callable[[int], None]:
    return lambda done: None


def _points(surveys: list[Survey]) -> list[Any]:
    return [piece.point for one in surveys for piece in one.pieces]


@pytest.fixture
def corpus(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Corpus:
    corpus = Corpus(tmp_path / "corpus", monkeypatch)
    for number in range(5):
        corpus.write(f"{number}.jsonl{'.gz' if number % 2 else ''}", LINE * (5 + 40 * number))
    return corpus


ALL = ["0.jsonl", "1.jsonl.gz", "2.jsonl", "3.jsonl.gz", "4.jsonl"]


def test_points_of_gzip_files_are_kept_unless_there_are_too_many(
    corpus: Corpus, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = [{"id": str(i), "text": os.urandom(900).hex()} for i in range(300)]
    corpus.write("big.jsonl.gz", "".join(json.dumps(row) + "\n" for row in rows).encode())
    for _ in range(2):
        made, _asked = corpus.survey(work_unit_bytes=50_000)
        assert sum(point is not None for point in _points(made)) > 5
    monkeypatch.setattr(module, "POINTS_BYTES", 1)
    made = survey_corpus(*corpus.arguments(50_000))
    assert not any(_points(made))


def test_a_rerun_asks_only_what_changed(corpus: Corpus) -> None:
    assert corpus.survey()[1] == ALL
    assert corpus.survey()[1] == []
    corpus.write("2.jsonl", LINE * 9)
    corpus.write("5.jsonl", LINE)
    (corpus.root / "0.jsonl").unlink()
    assert corpus.survey()[1] == ["2.jsonl", "5.jsonl"]


def test_a_file_of_the_same_size_and_time_is_asked_again(corpus: Corpus) -> None:
    corpus.survey()
    file = corpus.root / "2.jsonl"
    before = file.stat()
    file.write_bytes(file.read_bytes().replace(b"words", b"WORDS"))
    os.utime(file, ns=(before.st_atime_ns, before.st_mtime_ns))  # as `cp -p` and `rsync -t` do
    assert file.stat().st_mtime_ns == before.st_mtime_ns and file.stat().st_size == before.st_size
    assert corpus.survey()[1] == ["2.jsonl"]


def test_a_file_that_was_just_written_is_not_kept(corpus: Corpus, monkeypatch: pytest.MonkeyPatch) -> None:
    """It may change again within one step of the file system's clock."""
    monkeypatch.setattr(streams, "SETTLED_NS", 3600 * 10**9)
    assert corpus.survey()[1] == ALL
    assert corpus.survey()[1] == ALL
    monkeypatch.setattr(streams, "SETTLED_NS", -(10**12))
    assert corpus.survey()[1] == ALL  # nothing was kept while it was new
    assert corpus.survey()[1] == []


@pytest.mark.parametrize(
    "override", ["data.text_field=id", "data.encoding=latin-1", "data.max_bytes=100", "data.format=text"]
)
def test_an_option_that_changes_a_survey_makes_it_anew(corpus: Corpus, override: str) -> None:
    corpus.survey()
    assert corpus.survey(override)[1] == ALL
    assert corpus.survey(override)[1] == []


def test_other_sizes_of_work_units_and_damage_make_it_anew(corpus: Corpus) -> None:
    corpus.survey()
    assert corpus.survey(work_unit_bytes=900)[1] == ALL
    content = corpus.store.files[SURVEYS_NAME]
    for damaged in (content[:-9], content.replace(b'"entries"', b'"entrees"'), b"", b"[[", b"7", b"\xff"):
        corpus.store.files[SURVEYS_NAME] = damaged
        assert corpus.survey(work_unit_bytes=900)[1] == ALL
    digits = bytearray(corpus.store.files[SURVEYS_NAME])
    at = digits.index(b"[[0, ") + 5
    digits[at] = ord("1") if digits[at] != ord("1") else ord("2")
    corpus.store.files[SURVEYS_NAME] = bytes(digits)
    assert corpus.survey(work_unit_bytes=900)[1] == ALL


def test_what_is_kept_names_no_file(corpus: Corpus) -> None:
    corpus.survey()
    assert b"jsonl" not in corpus.store.files[SURVEYS_NAME]
    assert str(corpus.root).encode() not in corpus.store.files[SURVEYS_NAME]


def test_a_survey_that_is_killed_goes_on_where_it_was(
    corpus: Corpus, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "KEEP_SECONDS", 0.0)
    monkeypatch.setattr(module, "TASK_BYTES", 1)
    corpus.write("1.jsonl.gz", LINE * 50)
    (corpus.root / "1.jsonl.gz").write_bytes((corpus.root / "1.jsonl.gz").read_bytes()[:-9])
    with pytest.raises(CorpusError, match="truncated"):
        corpus.survey()
    done = set(corpus.asked) - {"1.jsonl.gz"}
    assert done
    corpus.write("1.jsonl.gz", LINE * 50)
    assert set(corpus.survey()[1]) == {*ALL} - done


def test_a_small_corpus_is_not_kept(corpus: Corpus, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "SMALL_BYTES", 2**20)
    corpus.survey()
    assert corpus.store.files == {}


def test_one_worker_surveys_in_this_process(corpus: Corpus, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(corpus, "start", None)
    assert corpus.survey("prepare.num_workers=1")[1] == ALL
    assert corpus.survey("prepare.num_workers=1")[1] == []


def test_versions_of_urls() -> None:
    import fsspec

    assert streams.version("memory://nothing") is None
    files = fsspec.filesystem("memory")
    files.pipe_file("/versions/a", b"a")
    assert streams.version("memory://versions/a") is None  # its size alone says nothing


@pytest.mark.parametrize(
    ("info", "expected"),
    [
        ({"size": 3, "ETag": '"abc"'}, '3 ETag="abc"'),
        ({"size": 3, "ETag": 'W/"abc"'}, None),
        ({"size": 3, "generation": 7, "etag": "x"}, "3 etag=x generation=7"),
        ({"size": 3, "LastModified": "today"}, None),
    ],
)
def test_a_version_is_what_an_object_store_promises(
    info: dict[str, Any], expected: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    from fsspec.implementations.memory import MemoryFileSystem

    monkeypatch.setattr(MemoryFileSystem, "info", lambda self, path, **options: info)
    assert streams.version("memory://a") == expected
