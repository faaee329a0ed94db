"""The results of reading: documents with their ids, and rejections."""

import hashlib
import re
from dataclasses import dataclass

_MADE_ID = re.compile(r"#\d+@[0-9a-f]{12}\Z")


@dataclass(frozen=True)
class Document:
    """One text of the corpus, not empty and free of lone surrogates."""

    doc_id: str
    text: str
    num_bytes: int
    """UTF-8 bytes of the text."""
    file: str
    position: str
    """Position in the file: `line 5`, `row 7`."""
    is_dev: bool
    """Whether its file is one of `data.dev_inputs`."""
    hashed: int
    """64-bit hash of its own id, or of its text if it has none; it decides between train and dev."""
    has_own_id: bool
    """Whether the id is its own. If not, it was made (`made_id`) and may repeat: copies of a file are not dropped
    unless a filter says so."""


@dataclass(frozen=True)
class Rejection:
    """A part of a file that is not a document, with its position and the reason."""

    file: str
    position: str
    reason: str
    """One of a few reasons, by which rejections are counted."""
    detail: str = ""
    doc_id: str | None = None
    is_filtered: bool = False
    """Whether a filter dropped it, which is not an error."""
    num_lines: int = 1
    """Lines of the file (rows of a table) that are lost."""


def id_hash(doc_id: str) -> int:
    """A 64-bit hash of a document id, evenly spread."""
    return int.from_bytes(hashlib.blake2b(doc_id.encode(), digest_size=8).digest(), "little")


def made_id(name: str, row: int, text: bytes) -> tuple[str, int]:
    """The id of a document that has none of its own, and the 64-bit hash of its text (UTF-8).

    Neither depends on the folder or machine of the corpus, or on its other documents.
    """
    digest = hashlib.blake2b(text, digest_size=8)
    # A name that is not UTF-8 contains lone surrogates.
    shown = name.encode(errors="backslashreplace").decode()
    return f"{shown}#{row}@{digest.hexdigest()[:12]}", int.from_bytes(digest.digest(), "little")


def has_made_form(doc_id: str) -> bool:
    """Whether an id has the form of `made_id`."""
    return _MADE_ID.search(doc_id) is not None


def is_dev_document(hashed: int, dev_fraction: float) -> bool:
    """Whether the document with this hash of its own id, or of its text, goes to the dev split."""
    return hashed < dev_fraction * 2.0**64
