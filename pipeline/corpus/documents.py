"""What reading gives: documents with their ids, and rejections."""

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
    """Where in the file: `line 5`, `row 7`."""
    is_dev: bool
    """Whether its file is one of `data.dev_inputs`."""
    hashed: int
    """64-bit hash of its own id, or of its text where it has none: says whether it goes to the dev split."""
    has_own_id: bool
    """Otherwise its id was made (`made_id`) and may repeat: a copy of a file is not dropped unasked."""


@dataclass(frozen=True)
class Rejection:
    """What is no document: its position and the reason."""

    file: str
    position: str
    reason: str
    """One of a few, to count by."""
    detail: str = ""
    doc_id: str | None = None
    is_filtered: bool = False
    """Dropped by a filter: wanted, and no fault of the document."""
    num_lines: int = 1
    """Lines (rows, of a table) that are lost with it."""


def id_hash(doc_id: str) -> int:
    """A 64-bit hash of a document id, evenly spread."""
    return int.from_bytes(hashlib.blake2b(doc_id.encode(), digest_size=8).digest(), "little")


def made_id(name: str, row: int, text: bytes) -> tuple[str, int]:
    """The id of a document that has none of its own, and the 64-bit hash of its text (UTF-8).

    Neither depends on the folder or machine of the corpus, nor on what else is in it.
    """
    digest = hashlib.blake2b(text, digest_size=8)
    # A name that is not UTF-8 holds lone surrogates.
    shown = name.encode(errors="backslashreplace").decode()
    return f"{shown}#{row}@{digest.hexdigest()[:12]}", int.from_bytes(digest.digest(), "little")


def has_made_form(doc_id: str) -> bool:
    """Whether it has the form of `made_id`."""
    return _MADE_ID.search(doc_id) is not None


def is_dev_document(hashed: int, dev_fraction: float) -> bool:
    """Whether the document with this hash of its own id, or of its text, goes to the dev split."""
    return hashed < dev_fraction * 2.0**64
