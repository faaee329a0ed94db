"""Files of each format, damaged. What is read does not depend on where the file is cut."""

import bz2
import csv
import gzip
import io
import json
import lzma
import zlib
from dataclasses import asdict

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import zstandard

from pipeline.config import DataConfig
from pipeline.corpus import Document, Rejection, WorkUnitReader, find_sources, plan_work_units, survey
from tests.fuzz.mutations import mutated

ROWS = [
    {"id": "a", "text": 'One. Two, and "three".'},
    {"id": "b", "text": "Zwei Sätze.\nNoch einer, 😀."},
    {"id": 7, "text": "x" * 70},
    {"text": "no id"},
    {"id": None, "text": " "},
    {"id": "c", "text": None},
    {"id": "d", "text": "end", "meta": {"n": [1, 2.5, None]}},
]
TEXT = "\n".join(str(row["text"]) for row in ROWS).encode()
JSONL = "".join(
    json.dumps(row, ensure_ascii=number % 2 == 0) + "\n" for number, row in enumerate(ROWS)
).encode()
CONLLU = (
    b"# newdoc id = d1\n# newpar\n# sent_id = 1\n# text = One two.\n1\tOne\tone\tNUM\t_\t_\t2\tx\t_\t_\n"
    b"2-3\ttwo.\t_\t_\t_\t_\t_\t_\t_\tSpaceAfter=No\n2\ttwo\ttwo\tNUM\t_\t_\t0\troot\t_\tSpaceAfter=No\n"
    b"3\t.\t.\tPUNCT\t_\t_\t2\tp\t_\t_\n\n# newdoc\n# text = Three.\n1\tThree.\t_\t_\t_\t_\t0\troot\t_\t_\n\n"
)


def separated(delimiter: str, quoting: int, line_end: str) -> bytes:
    out = io.StringIO()
    writer = csv.writer(out, delimiter=delimiter, quoting=quoting, lineterminator=line_end, escapechar="\\")
    writer.writerow(["id", "text", "n"])
    writer.writerows([row.get("id"), row["text"], 1] for row in ROWS)
    return out.getvalue().encode()


def table() -> pa.Table:
    rows = [{"id": None if row.get("id") is None else str(row["id"]), "text": row["text"]} for row in ROWS]
    return pa.Table.from_pylist(rows * 3, pa.schema([("id", pa.string()), ("text", pa.string())]))


def parquet(**options: object) -> bytes:
    out = io.BytesIO()
    pq.write_table(table(), out, row_group_size=4, **options)
    return out.getvalue()


def arrow(stream: bool) -> bytes:
    out = io.BytesIO()
    with (pa.ipc.new_stream if stream else pa.ipc.new_file)(out, table().schema) as writer:
        writer.write_table(table(), max_chunksize=4)
    return out.getvalue()


CSVS = [
    separated(",", csv.QUOTE_MINIMAL, "\n"),
    separated(",", csv.QUOTE_ALL, "\r\n"),
    b'id,text\n1,"a ""b"" c"\n',
]
TARGETS = {
    "text": ("a.txt", [TEXT]),
    "jsonl": ("a.jsonl", [JSONL]),
    "csv": ("a.csv", CSVS),
    "tsv": ("a.tsv", [separated("\t", csv.QUOTE_MINIMAL, "\n"), separated("\t", csv.QUOTE_ALL, "\r\n")]),
    "conllu": ("a.conllu", [CONLLU]),
    "unknown format": ("part-00", [JSONL, TEXT, CSVS[0], gzip.compress(JSONL), arrow(True), parquet()]),
    "gzip": ("a.jsonl.gz", [gzip.compress(JSONL), gzip.compress(JSONL[:90]) + gzip.compress(JSONL[90:])]),
    "zstd": ("a.jsonl.zst", [zstandard.compress(JSONL), zstandard.compress(JSONL) * 2]),
    "bzip2": ("a.jsonl.bz2", [bz2.compress(JSONL)]),
    "xz": ("a.jsonl.xz", [lzma.compress(JSONL)]),
    "parquet": (
        "a.parquet",
        [parquet(), parquet(compression="none", use_dictionary=False), parquet(version="1.0")],
    ),
    "arrow": ("a.arrow", [arrow(False)]),
    "arrow stream": ("a.arrow", [arrow(True)]),
}
SPLIT_BYTES = (200, 30)
"""What is read is the same for each."""


@pytest.mark.parametrize("target", TARGETS)
def test_a_file_is_read_or_refused(fuzz, target):
    name, seeds = TARGETS[target]
    path = fuzz.folder / name
    data = DataConfig(inputs=(str(path),), max_document_bytes=12_000)

    def read(work_unit_bytes: int) -> list[Document | Rejection]:
        surveys = [survey(source, data, work_unit_bytes) for source in find_sources(data)]
        reader = WorkUnitReader(data)
        return [
            item for unit in plan_work_units(surveys, data, work_unit_bytes) for item in reader.read(unit)
        ]

    def check(content: bytes) -> None:
        path.write_bytes(content)
        once = read(SPLIT_BYTES[0])
        for item in once:
            if isinstance(item, Document):
                assert item.text and not item.text.isspace() and item.num_bytes == len(item.text.encode())
                assert item.doc_id.encode()
            assert json.dumps(asdict(item))
        if zlib.crc32(content) % 4 == 0:
            assert once == read(SPLIT_BYTES[1]), "what is read depends on where the file is cut"

    fuzz(target, lambda rng: mutated(rng, seeds), check)
