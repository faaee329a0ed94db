"""Gzip read from its middle: the same bytes as from its start."""

import gzip
import json
import random
import zlib
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.config import DataConfig
from pipeline.corpus import find_sources, survey, survey_all
from pipeline.corpus.opening import restart_points
from pipeline.corpus.opening.compression import decompressed
from pipeline.corpus.opening.restart_points import RestartPoints
from pipeline.corpus.opening.streams import RangeReader, text_chunks
from pipeline.corpus.work_units import WorkUnitReader, plan_work_units
from pipeline.errors import CorpusError

CHANCE = random.Random(5)
WORDS = [bytes(CHANCE.choices(b"abcdefghij \n", k=CHANCE.randint(1, 9))) for _ in range(3000)]


def text_of(size: int, seed: int) -> bytes:
    """Text with many short and long matches, and a part that does not compress."""
    chance = random.Random(seed)
    text = b" ".join(chance.choices(WORDS, k=size // 6))
    return text + chance.randbytes(size // 8) + text[: size // 4]


def member(text: bytes, level: int, strategy: int) -> bytes:
    made = zlib.compressobj(level, wbits=31, memLevel=1, strategy=strategy)  # small blocks
    return made.compress(text) + made.flush()


def in_chunks(content: bytes, size: int):
    return (content[start : start + size] for start in range(0, len(content), size))


@given(
    parts=st.lists(
        st.tuples(
            st.integers(0, 20_000),
            st.integers(0, 99),
            st.integers(0, 9),
            st.sampled_from([zlib.Z_DEFAULT_STRATEGY, zlib.Z_FIXED, zlib.Z_HUFFMAN_ONLY]),
        ),
        min_size=1,
        max_size=3,
    ),
    zeros=st.integers(0, 20),
    chunk=st.integers(200, 9000),
    spacing=st.integers(500, 20_000),
)
@settings(max_examples=25)
def test_from_every_point_the_rest_of_the_text_follows(parts, zeros, chunk, spacing) -> None:
    texts = [text_of(size, seed) for size, seed, _, _ in parts]
    whole = b"".join(texts)
    content = bytes(zeros).join(
        member(text, *one[2:]) for text, one in zip(texts, parts, strict=True)
    ) + bytes(zeros)
    points = RestartPoints(spacing)

    def stored():
        for part in in_chunks(content, chunk):
            points.delivered += len(part)
            yield part

    assert b"".join(decompressed(stored(), "gzip", "a", points)) == whole
    assert points.text == len(whole)
    for point in points.points[:2] + points.points[-2:]:
        rest = in_chunks(content[point.stored - (point.bits > 0) :], chunk)
        assert b"".join(decompressed(rest, "gzip", "a", start=point)) == whole[point.text :]


def test_bit_offsets_and_distances_are_those_that_are_hard() -> None:
    """The property above would be empty without points inside bytes, and without references over a point."""
    points = RestartPoints(1)
    content = member(text_of(60_000, 1), 6, zlib.Z_DEFAULT_STRATEGY)
    points.delivered = len(content)
    b"".join(decompressed(iter([content]), "gzip", "a", points))
    assert {point.bits for point in points.points} == set(range(8))
    point = points.points[-1]
    broken = restart_points.RestartPoint(point.text, point.stored, point.bits, zlib.compress(bytes(2**15)))
    rest = [content[point.stored - (point.bits > 0) :]]
    assert b"".join(decompressed(iter(rest), "gzip", "a", start=broken)) != text_of(60_000, 1)[point.text :]


def test_ranges_in_any_order(tmp_path: Path) -> None:
    whole = text_of(300_000, 3)
    path = tmp_path / "a.gz"
    path.write_bytes(member(whole[:200_000], 6, 0) + member(whole[200_000:], 1, 0))
    points = RestartPoints(10_000)
    assert b"".join(text_chunks(str(path), "gzip", points=points)) == whole
    assert len(points.points) > 20
    reader = RangeReader(str(path), "gzip")
    for _ in range(60):
        start, end = sorted(CHANCE.choices(range(len(whole)), k=2))
        assert b"".join(reader.chunks(start, end, points.before(start))) == whole[start:end]
        assert b"".join(reader.chunks(end, end + 5, points.before(end))) == whole[end : end + 5]


@pytest.mark.parametrize("damage", ["cut", "flipped"])
def test_damage_is_told_as_without_points(tmp_path: Path, damage: str) -> None:
    content = bytearray(member(text_of(300_000, 4), 6, 0))
    if damage == "cut":
        del content[-100_000:]
    else:
        content[len(content) // 2] ^= 255
    (tmp_path / "a.gz").write_bytes(content)
    said = []
    for points in (None, RestartPoints(1000)):
        with pytest.raises(CorpusError) as raised:
            list(text_chunks(str(tmp_path / "a.gz"), "gzip", points=points))
        said.append(str(raised.value))
    assert said[0] == said[1]


def test_each_work_unit_starts_near_its_text(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rows = [{"id": f"d{i}", "text": text_of(900, i)[:800].decode("latin-1")} for i in range(600)]
    (tmp_path / "a.jsonl.gz").write_bytes(
        gzip.compress(b"".join(json.dumps(r).encode() + b"\n" for r in rows))
    )
    data = DataConfig(inputs=(str(tmp_path),))
    (source,) = find_sources(data, lambda line: None)
    units = plan_work_units([survey(source, data, 50_000)], data, 50_000)
    assert len(units) > 10
    inflated = 0
    decompress = restart_points.NotingDecoder.decompress

    def counted(self, given: bytes, max_length: int) -> bytes:
        nonlocal inflated
        text = decompress(self, given, max_length)
        inflated += len(text)
        return text

    expected = [document for unit in units for document in WorkUnitReader(data).read(unit)]
    assert len(expected) == 600
    monkeypatch.setattr(restart_points.NotingDecoder, "decompress", counted)
    monkeypatch.setattr("pipeline.corpus.opening.compression.CHUNK_BYTES", 2**12)
    monkeypatch.setattr("pipeline.corpus.opening.restart_points.CHUNK_BYTES", 2**12)
    # Each by another worker, as on a cluster.
    assert [document for unit in units for document in WorkUnitReader(data).read(unit)] == expected
    size = sum(unit.num_bytes for unit in units)
    assert 0 < inflated < 2.5 * size  # blocks of gzip hold some 30 kB of text here, a work unit 50 kB


def test_without_the_library_files_are_read_from_their_start(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    content = b'{"id": "a", "text": "Some words."}\n' * 3000
    (tmp_path / "a.jsonl.gz").write_bytes(gzip.compress(content))
    data = DataConfig(inputs=(str(tmp_path),), max_rejected_fraction=0.5)
    sources = find_sources(data, lambda line: None)
    with_points = plan_work_units(survey_all(sources, data, 9000), data, 9000)
    monkeypatch.setattr(restart_points, "_LIBRARY", None)
    without = plan_work_units(survey_all(sources, data, 9000), data, 9000)
    assert without == with_points
    assert all(part.piece.point is None for unit in without for part in unit.parts)
    for unit in with_points:  # as on a node without the library
        assert len(list(WorkUnitReader(data).read(unit))) > 0
