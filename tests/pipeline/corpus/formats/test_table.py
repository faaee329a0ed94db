"""The table of formats: it agrees with the configuration, and a line in it is all that a new format needs."""

import bz2
from collections.abc import Iterator
from pathlib import Path
from typing import get_args

import pyarrow as pa
import pytest

from jobs.prepare import prepare
from pipeline.config import DataConfig, load_config
from pipeline.corpus import (
    Document,
    Piece,
    Rejection,
    WorkUnitReader,
    find_sources,
    plan_work_units,
    survey_all,
)
from pipeline.corpus.formats.document_maker import DocumentMaker
from pipeline.corpus.formats.format import CorpusFormat, FileStart, Resemblance
from pipeline.corpus.formats.lines import lines
from pipeline.corpus.formats.table import FORMATS, TEXT
from pipeline.corpus.opening.compression import COMPRESSION_SUFFIXES
from pipeline.corpus.unread_formats import UNREAD_SUFFIXES
from pipeline.errors import CorpusError


def test_the_configuration_has_the_formats_of_the_table() -> None:
    files = {name for name, format_ in FORMATS.items() if format_.input_prefix is None}
    assert set(get_args(DataConfig.model_fields["format"].annotation)) == {"auto", *files}


def test_names_and_suffixes_have_one_meaning() -> None:
    assert all(format_.name == name and format_.title for name, format_ in FORMATS.items())
    suffixes = [suffix for format_ in FORMATS.values() for suffix in format_.suffixes]
    suffixes += [*COMPRESSION_SUFFIXES, *UNREAD_SUFFIXES]
    assert len(suffixes) == len(set(suffixes)) and all(suffix == suffix.lower() for suffix in suffixes)
    assert FORMATS[TEXT.name] is TEXT


class Fortune(CorpusFormat):
    """Documents between lines `%`, as the program `fortune` reads them."""

    name = "fortune"
    title = "fortune cookies"
    suffixes = frozenset(("fortune",))

    def resemblance(self, start: FileStart) -> Resemblance | None:
        if "\n%\n" not in start.text:
            return None
        return Resemblance(self.title, "name it .fortune", is_certain=True, has_text_field=True)

    def read(self, piece: Piece, data: DataConfig, chunks: Iterator[bytes]) -> Iterator[Document | Rejection]:
        make = DocumentMaker(piece.source, data)
        first, held = 1, list[bytes]()
        for number, (line, _) in enumerate([*lines(chunks, 10**9), (b"%", 1)], 1):
            if line == b"%":
                yield make.document(f"line {first}", first, None, b"\n".join(held).decode())
                first, held = number + 1, []
            else:
                held.append(line or b"")


COOKIES = [f"Cookie {number} is lucky.\nIt is eaten." for number in range(30)] + [" "]
CONTENT = "\n%\n".join(COOKIES).encode()


@pytest.mark.parametrize("name", ["a.fortune", "a.00.FORTUNE.bz2", "no_suffix"])
def test_a_class_and_a_line_are_a_new_format(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    (tmp_path / "in").mkdir()
    file = tmp_path / "in" / name
    file.write_bytes(bz2.compress(CONTENT) if name.endswith("bz2") else CONTENT)
    config = load_config(
        None,
        [
            f"data.inputs=[{tmp_path}/in]",
            "data.max_rejected_fraction=0.1",
            "launcher=local",
            "prepare.num_workers=1",
            "tokenizer.vocab_size=300",
        ],
    )
    data = config.data
    monkeypatch.setitem(FORMATS, "fortune", Fortune())
    [source] = find_sources(data)
    assert source.format == "fortune"
    work_units = plan_work_units(survey_all([source], data, 10**6), data, 10**6)
    *documents, empty = [item for unit in work_units for item in WorkUnitReader(data).read(unit)]
    assert [item.text for item in documents if isinstance(item, Document)] == COOKIES[:30]
    assert isinstance(empty, Rejection) and (empty.position, empty.reason) == ("line 91", "empty")

    prepare(config, str(tmp_path / "out"))
    [shard] = (tmp_path / "out").glob("*.arrow")
    assert pa.ipc.open_file(shard).read_all().num_rows == 30


def test_the_name_may_not_contradict_the_new_format(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "a.csv"
    file.write_bytes(CONTENT)
    monkeypatch.setitem(FORMATS, "fortune", Fortune())
    with pytest.raises(CorpusError, match=r"a\.csv.* no CSV, as its name says, but fortune cookies"):
        find_sources(DataConfig(inputs=(str(file),)))
    file.rename(tmp_path / "a.txt")
    with pytest.raises(CorpusError, match=r"a\.txt.* looks like fortune cookies.*name it \.fortune, or set"):
        find_sources(DataConfig(inputs=(str(tmp_path / "a.txt"),)))
