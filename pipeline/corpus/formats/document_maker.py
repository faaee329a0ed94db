"""From the values of a row, or a text, to a document or a rejection with the reason."""

from typing import Any

from pipeline.config import DataConfig
from pipeline.corpus.documents import Document, Rejection, id_hash, made_id
from pipeline.corpus.formats.fields import MISSING, field_value, shortly
from pipeline.corpus.formats.lines import NOT_UTF8, bad_byte
from pipeline.corpus.opening.encodings import UTF8
from pipeline.corpus.source import Source


class DocumentMaker:
    """Makes the documents of one source.

    `surrogates_are_bytes`: lone surrogates in its text stand for bytes that are not UTF-8.
    """

    def __init__(self, source: Source, data: DataConfig, surrogates_are_bytes: bool = False) -> None:
        self._source = source
        self._file = source.shown_name
        self._text_field = data.text_field
        self._id_field = data.id_field
        self._max_bytes = data.max_document_bytes
        self._surrogates_are_bytes = surrogates_are_bytes
        self.not_text = NOT_UTF8 if data.encoding == UTF8 else f"not {data.encoding}"
        """Reason of rejection of bytes that are not text in the encoding of the corpus."""
        self.no_field = f"no field {data.text_field!r}"
        """Reason of rejection of a row without the text."""

    def from_row(self, position: str, row: int, values: dict[str, Any]) -> Document | Rejection:
        """The document of a row, from its values by field; only text and id are read.

        `position`: of the row, for messages; `row`: its number, for a made id.
        """
        own_id = field_value(values, self._id_field)
        if isinstance(own_id, int) and not isinstance(own_id, bool):
            own_id = str(own_id)
        if own_id is MISSING or own_id is None or own_id == "":
            own_id = None
        elif isinstance(own_id, UnicodeDecodeError):
            return self.rejection(position, self.not_text, f"id: {bad_byte(own_id)}")
        elif not isinstance(own_id, str):
            detail = (
                f"{shortly(own_id)} is neither a string nor an integer; name another field in data.id_field"
            )
            return self.rejection(position, "bad id", f"{detail} (ids are made where no document has it)")
        text = field_value(values, self._text_field)
        if isinstance(text, str):
            return self.document(position, row, own_id, text)
        if text is MISSING:
            names = ", ".join(map(shortly, list(values)[:8])) or "none"
            return self.rejection(position, self.no_field, f"its fields: {names}", own_id)
        if isinstance(text, UnicodeDecodeError):
            return self.rejection(position, self.not_text, bad_byte(text), own_id)
        if isinstance(text, Exception):
            return self.rejection(position, "unreadable value", shortly(str(text)), own_id)
        kind = "null" if text is None else type(text).__name__
        detail = f"it holds {kind}"
        return self.rejection(position, f"no text in field {self._text_field!r}", detail, own_id)

    def document(self, position: str, row: int, own_id: str | None, text: str) -> Document | Rejection:
        """The document with this text; without an id of its own it gets a made one."""
        try:
            encoded = text.encode()
            hashed = 0 if own_id is None else id_hash(own_id)
        except UnicodeEncodeError as error:
            shown = None if own_id is None else own_id.encode(errors="replace").decode()
            surrogate = ord(error.object[error.start])
            if self._surrogates_are_bytes:
                detail = f"byte 0x{surrogate & 0xFF:02x} at character {error.start}"
                return self.rejection(position, self.not_text, detail, shown)
            detail = f"U+{surrogate:04X} at character {error.start}"
            return self.rejection(position, "lone surrogate", detail, shown)
        if not text or text.isspace():
            return self.rejection(position, "empty", "no text except white space", own_id)
        if len(encoded) > self._max_bytes:
            return self.too_large(position, len(encoded))
        source = self._source
        if own_id is None:
            doc_id, hashed = made_id(source.name, row, encoded)
        else:
            doc_id = own_id
        return Document(
            doc_id, text, len(encoded), self._file, position, source.is_dev, hashed, own_id is not None
        )

    def rejection(
        self, position: str, reason: str, detail: str = "", doc_id: str | None = None, num_lines: int = 1
    ) -> Rejection:
        """A rejection at `position`."""
        return Rejection(self._file, position, reason, detail, doc_id, num_lines=num_lines)

    def too_large(self, position: str, num_bytes: int, num_lines: int = 1) -> Rejection:
        """The rejection of a document over `data.max_document_bytes`."""
        detail = f"{num_bytes} bytes; data.max_document_bytes is {self._max_bytes}"
        return self.rejection(position, "too large", detail, num_lines=num_lines)
