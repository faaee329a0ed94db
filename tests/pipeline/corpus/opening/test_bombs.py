"""Small compressed files of much text: the memory they take is bounded, as one document and as many lines."""

import bz2
import gzip
import lzma
import os
import tracemalloc

import pyarrow as pa
import pytest
import zstandard
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.config import DataConfig
from pipeline.corpus import Document, Rejection, WorkUnitReader, find_sources, plan_work_units, survey_all
from pipeline.corpus.document_lines import read_documents
from pipeline.corpus.opening.compression import CHUNK_BYTES, decompressed
from pipeline.errors import CorpusError

NUM_BYTES = 2**28
COMPRESS = {
    "gzip": lambda data: gzip.compress(data, 1),
    "zstd": lambda data: zstandard.ZstdCompressor(level=1).compress(data),
    "bz2": lambda data: bz2.compress(data, 9),
    "xz": lambda data: lzma.compress(data, preset=0),
    "lz4": lambda data: lz4(data),
}
SUFFIX = {"gzip": "gz", "zstd": "zst", "bz2": "bz2", "xz": "xz", "lz4": "lz4"}


def lz4(data: bytes) -> bytes:
    sink = pa.BufferOutputStream()
    with pa.CompressedOutputStream(sink, "lz4") as stream:
        stream.write(data)
    return sink.getvalue().to_pybytes()


@pytest.mark.parametrize("compression", COMPRESS)
def test_the_output_of_one_read_is_bounded(compression):
    stored = COMPRESS[compression](bytes(NUM_BYTES))
    assert len(stored) < NUM_BYTES / 100
    pa_before = pa.total_allocated_bytes()
    total = largest = 0
    tracemalloc.start()
    for chunk in decompressed(iter([stored]), compression, "bomb"):
        total += len(chunk)
        largest = max(largest, len(chunk))
        assert pa.total_allocated_bytes() - pa_before < 2**25
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert total == NUM_BYTES
    assert largest <= 33 * CHUNK_BYTES
    assert peak < NUM_BYTES / 2


@settings(max_examples=10, deadline=None)
@given(
    st.sampled_from(sorted(COMPRESS)),
    st.lists(st.integers(0, CHUNK_BYTES + 9), min_size=1, max_size=3),
    st.integers(1, 300_000),
    st.booleans(),
)
def test_streams_one_after_the_other_give_their_text_whatever_the_chunks(compression, sizes, step, is_random):
    texts = [os.urandom(size) if is_random else bytes(size) for size in sizes]
    stored = b"".join(map(COMPRESS[compression], texts))
    chunks = (stored[start : start + step] for start in range(0, len(stored), step))
    assert b"".join(decompressed(chunks, compression, "x")) == b"".join(texts)
    cut = iter([stored[:-1]])
    with pytest.raises(CorpusError, match=r"truncated|damaged"):
        list(decompressed(cut, compression, "x"))


def read(path, **options):
    data = DataConfig(inputs=(str(path),), **options)
    units = plan_work_units(survey_all(find_sources(data), data, 2**24), data, 2**24)
    reader = WorkUnitReader(data)
    return [item for unit in units for item in reader.read(unit)]


@pytest.mark.parametrize("compression", COMPRESS)
@pytest.mark.parametrize(
    ("name", "head"), [("a.jsonl", b'{"text": "'), ("a.txt", b"It is. "), ("a.conllu", b"# text = ")]
)
def test_one_document_of_all_of_it_is_rejected(tmp_path, compression, name, head):
    path = tmp_path / f"{name}.{SUFFIX[compression]}"
    path.write_bytes(COMPRESS[compression](head + b"a" * 2**26 + b'"}\n'))
    tracemalloc.start()
    (item,) = read(path, max_document_bytes=2**20)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert isinstance(item, Rejection)
    assert item.reason in ("too large", "broken CoNLL-U")
    assert peak < 2**27


def test_a_line_of_csv_of_all_of_it_is_an_error(tmp_path):
    path = tmp_path / "a.csv.zst"
    path.write_bytes(COMPRESS["zstd"](b"id,text\n1," + b"a" * 2**27))
    with pytest.raises(CorpusError, match=r"a\.csv\.zst' has a line of more than \d+ bytes"):
        read(path, max_document_bytes=2**20)


def test_many_lines_are_read_in_little_memory(tmp_path):
    line = b'{"text": "' + b"a" * 2**16 + b'"}\n'
    path = tmp_path / "a.jsonl.gz"
    path.write_bytes(COMPRESS["gzip"](line * 2**11))
    data = DataConfig(inputs=(str(path),))
    tracemalloc.start()
    units = plan_work_units(survey_all(find_sources(data), data, 2**24), data, 2**24)
    count = sum(isinstance(item, Document) for unit in units for item in WorkUnitReader(data).read(unit))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert count == 2**11
    assert peak < 2**25


def test_documents_of_one_file_have_a_largest_line(tmp_path, monkeypatch):
    path = tmp_path / "a.jsonl"
    path.write_text('{"id": 1, "text": "' + "a" * 5000 + '"}\n{"id": 2, "text": "b"}\n')
    errors: list[CorpusError] = []
    assert [id_ for id_, _ in read_documents(path)] == [1, 2]
    monkeypatch.setattr("pipeline.corpus.document_lines.LARGEST_LINE", 1000)
    assert list(read_documents(path, reject=errors.append)) == [(2, "b")]
    assert "a.jsonl:1: a line of 50" in str(errors[0])
