"""Formats that are not read, by signature and suffix, with a remedy for each."""

from dataclasses import dataclass

from pipeline.corpus.opening.encodings import is_text

_UNPACK = "unpack it first"
_CONVERT = "write it as Parquet or JSON lines"
_EXPORT = "export its tables as CSV or Parquet"
_EXTRACT = "extract its text first"
_LEAVE = "leave it out, for example by naming the others with a glob"


@dataclass(frozen=True)
class Unread:
    """A format that is not read."""

    what: str
    """As in `it is ...`."""
    remedy: str
    """The remedy, as in `...; unpack it first`."""


_ZIP = Unread("a ZIP archive", _UNPACK)
_EXCEL = Unread("an Excel workbook", "export its sheets as CSV")
_OFFICE = Unread("an office document", _EXTRACT)
_TAR = Unread("a tar archive", _UNPACK)
_SQLITE = Unread("an SQLite database", _EXPORT)
_PDF = Unread("a PDF document", _EXTRACT)
_IMAGE = Unread("an image", _LEAVE)
_SOUND = Unread("sound or video", _LEAVE)
_AVRO = Unread("an Avro file", _CONVERT)
_ORC = Unread("an ORC file", _CONVERT)
_HDF5 = Unread("an HDF5 file", _CONVERT)
_NUMPY = Unread("a NumPy array", _CONVERT)
_PICKLE = Unread("a Python pickle, which is not safe to open", _CONVERT)
_ARCHIVE = Unread("an archive", _UNPACK)
_COMPRESSED = Unread(
    "a compressed file of another kind than gzip, zstd, bzip2, xz and lz4", "uncompress it first"
)
_WEIGHTS = Unread("a model's weights", _LEAVE)
_PROGRAM = Unread("a compiled program", _LEAVE)
_WARC = Unread("a web archive (WARC)", _EXTRACT)
_TORCH = Unread("a file of PyTorch", _CONVERT)
_ENCRYPTED = Unread("an encrypted Parquet file", "write it again without encryption")
_FEATHER1 = Unread("a Feather file of version 1", "write it again as Arrow (Feather version 2) or Parquet")

GIT_LFS = Unread(
    "the pointer of Git LFS to a file that was not fetched", "run `git lfs pull` where it was cloned"
)
HTML = Unread("an HTML page, such as an error or log-in page", "fetch the file again")
XML = Unread("an XML document, such as an error of an object store", "fetch the file again")
UTF16 = Unread("text in UTF-16 or UTF-32", "set data.encoding=utf-16 (or utf-32)")
BINARY = Unread("binary data of no known format", "name the format in data.format, or leave it out")
COMPRESSED_TWICE = Unread("compressed twice", "uncompress it once")

_UNREAD_MAGIC: tuple[tuple[int, bytes, Unread], ...] = (
    (0, b"PK\x03\x04", _ZIP),
    (0, b"PK\x05\x06", _ZIP),
    (0, b"PK\x07\x08", _ZIP),
    (257, b"ustar", _TAR),
    (0, b"7z\xbc\xaf\x27\x1c", _ARCHIVE),
    (0, b"Rar!\x1a\x07", _ARCHIVE),
    (0, b"!<arch>\n", _ARCHIVE),
    (0, b"LZIP\x01", _COMPRESSED),
    (0, b"\x1f\x9d", _COMPRESSED),
    (0, b"\x02\x21\x4c\x18", _COMPRESSED),
    (0, b"\xff\x06\x00\x00sNaPpY", _COMPRESSED),
    (0, b"\x89LZO\x00\r\n\x1a\n", _COMPRESSED),
    (0, b"SQLite format 3\x00", _SQLITE),
    (8, b"DUCK", Unread("a DuckDB database", _EXPORT)),
    (0, b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1", _OFFICE),
    (0, b"\x89PNG\r\n\x1a\n", _IMAGE),
    (0, b"\xff\xd8\xff", _IMAGE),
    (0, b"GIF87a", _IMAGE),
    (0, b"GIF89a", _IMAGE),
    (0, b"II*\x00", _IMAGE),
    (0, b"MM\x00*", _IMAGE),
    (0, b"RIFF", Unread("an image, sound or video", _LEAVE)),
    (0, b"\x00\x00\x01\x00", _IMAGE),
    (4, b"ftyp", _SOUND),
    (0, b"ID3\x03", _SOUND),
    (0, b"ID3\x04", _SOUND),
    (0, b"OggS\x00", _SOUND),
    (0, b"fLaC\x00", _SOUND),
    (0, b"\x1a\x45\xdf\xa3", _SOUND),
    (0, b"Obj\x01", _AVRO),
    (0, b"ORC\x0a", _ORC),
    (0, b"ORC\x08", _ORC),
    (0, b"ORC\x1d", _ORC),
    (0, b"\x89HDF\r\n\x1a\n", _HDF5),
    (0, b"\x93NUMPY", _NUMPY),
    (0, b"GGUF", _WEIGHTS),
    (0, b"FEA1", _FEATHER1),
    (0, b"PARE", _ENCRYPTED),
    (0, b"\x7fELF", _PROGRAM),
    (0, b"\xca\xfe\xba\xbe", _PROGRAM),
    (0, b"\xcf\xfa\xed\xfe", _PROGRAM),
    (0, b"\x00asm\x01", _PROGRAM),
    (0, b"RDX3\n", Unread("a file of R", _CONVERT)),
    (0, b"MATLAB 5.0 MAT-file", Unread("a file of MATLAB", _CONVERT)),
)
_UNREAD_TEXT = (
    (b"%PDF-", _PDF),
    (b"%!PS-", Unread("a PostScript document", _EXTRACT)),
    (b"{\\rtf", _OFFICE),
    (b"WARC/1.", _WARC),
)
UNREAD_SUFFIXES: dict[str, Unread] = {
    suffix: kind
    for suffixes, kind in (
        ("zip jar epub kmz whl", _ZIP),
        ("xlsx xlsm xls xlsb ods", _EXCEL),
        ("docx pptx odt odp doc ppt", _OFFICE),
        ("tar tgz tbz tbz2 txz tzst", _TAR),
        ("7z rar cab", _ARCHIVE),
        ("z br sz lzo lz snappy", _COMPRESSED),
        ("sqlite sqlite3 duckdb mdb lmdb", _SQLITE),
        ("pdf", _PDF),
        ("png jpg jpeg gif webp tif tiff bmp ico heic", _IMAGE),
        ("mp3 mp4 wav flac ogg avi mov mkv webm m4a", _SOUND),
        ("avro", _AVRO),
        ("orc", _ORC),
        ("h5 hdf5 hdf", _HDF5),
        ("npy npz", _NUMPY),
        ("pkl pickle joblib", _PICKLE),
        ("pt pth", _TORCH),
        ("safetensors gguf", _WEIGHTS),
        ("tfrecord tfrecords", Unread("a file of TensorFlow records", _CONVERT)),
        ("warc wet wat", _WARC),
        ("rds rdata", Unread("a file of R", _CONVERT)),
        ("dta sav sas7bdat", Unread("a file of a statistics program", _CONVERT)),
    )
    for suffix in suffixes.split()
}
"""Formats that are not read, by suffix; `x.snappy.parquet` is read, as the last suffix counts."""


def unread_format_of(head: bytes) -> Unread | None:
    """The format that is not read, where the first bytes are its signature; else None."""
    if head.startswith(b"version https://git-lfs.github.com/spec/"):
        return GIT_LFS
    if is_text(head):
        return next((kind for magic, kind in _UNREAD_TEXT if head.startswith(magic)), None)
    for offset, magic, kind in _UNREAD_MAGIC:
        if head.startswith(magic, offset):
            if kind is _ZIP and (b"xl/" in head[:4096] or b"[Content_Types].xml" in head[:64]):
                return _EXCEL if b"xl/" in head[:4096] else _OFFICE
            return kind
    if head[:1] == b"\x80" and head[1:2] in (b"\x02", b"\x03", b"\x04", b"\x05"):
        return _PICKLE
    if head[8:10] == b'{"' and int.from_bytes(head[:8], "little") < 2**27 and head[4:8] == b"\0\0\0\0":
        return _WEIGHTS
    return next((kind for magic, kind in _UNREAD_TEXT if head.startswith(magic)), None)


def page_of(text: str) -> Unread | None:
    """An HTML or XML page, such as servers send instead of a file."""
    start = text[:200].lstrip().lower()
    if start.startswith(("<!doctype html", "<html", "<head", "<body", "<!-- ", "<script")):
        return HTML
    return XML if start.startswith(("<?xml", "<error", "<!doctype")) else None
