"""Points inside a gzip file at which inflation can start again, as in `examples/zran.c` of zlib (https://zlib.net).

Python's `zlib` offers neither block boundaries nor bit offsets, so zlib's own functions are called. Where the library
is not found there are no points, and files are read from their start.
"""

import ctypes
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

CHUNK_BYTES = 2**20
WINDOW_BYTES = 2**15
"""Text before a point to which what follows it may refer."""
_OK, _END, _NO_PROGRESS, _BLOCK = 0, 1, -5, 5
_AT_BOUNDARY, _IN_LAST_BLOCK = 128, 64


@dataclass(frozen=True)
class RestartPoint:
    """The boundary of two deflate blocks."""

    text: int
    """Bytes of text before it, from the start of the file."""
    stored: int
    """Stored bytes before it; the last `bits` bits of the last one belong to what follows."""
    bits: int
    window: bytes
    """The last `WINDOW_BYTES` of text before it, compressed."""


class RestartPoints:
    """Collects a point about every `spacing` bytes of text while a file is inflated from its start."""

    def __init__(self, spacing: int) -> None:
        self._spacing = spacing
        self.points: list[RestartPoint] = []
        self.delivered = 0
        """Stored bytes that have been handed to the decoders; the end of a decoder's input is always here."""
        self.text = 0

    def note(self, stream: "_Stream") -> None:
        """Add this boundary, unless the last point is near."""
        if self.text < (self.points[-1].text if self.points else 0) + self._spacing:
            return
        window, size = ctypes.create_string_buffer(WINDOW_BYTES), ctypes.c_uint()
        _library().inflateGetDictionary(ctypes.byref(stream), window, ctypes.byref(size))
        bits, stored = stream.data_type & 7, self.delivered - stream.avail_in
        self.points.append(RestartPoint(self.text, stored, bits, zlib.compress(window.raw[: size.value], 1)))

    def before(self, text: int) -> RestartPoint | None:
        """The last point at or before this byte of text."""
        return next((point for point in reversed(self.points) if point.text <= text), None)


class NotingDecoder:
    """Inflates one gzip member, and notes points; as `bz2.BZ2Decompressor`."""

    def __init__(
        self, points: RestartPoints | None, raw: "RestartPoint | None" = None, first: int = 0
    ) -> None:
        """`raw`: begin at this point, whose byte with the bits is `first`; then only deflate data are read."""
        self._points = points
        self._stream = _Stream()
        self._rest = b""
        self._text = ctypes.create_string_buffer(CHUNK_BYTES)
        self.eof = False
        library = _library()
        wbits = 31 if raw is None else -15
        version = library.zlibVersion()
        self._check(library.inflateInit2_(ctypes.byref(self._stream), wbits, version, ctypes.sizeof(_Stream)))
        if raw is not None:
            if raw.bits:
                library.inflatePrime(ctypes.byref(self._stream), raw.bits, first >> (8 - raw.bits))
            window = zlib.decompress(raw.window)
            self._check(library.inflateSetDictionary(ctypes.byref(self._stream), window, len(window)))

    def __del__(self) -> None:
        if (library := _library()) is not None:
            library.inflateEnd(ctypes.byref(self._stream))

    @property
    def needs_input(self) -> bool:
        """Whether all input so far is used."""
        return not self._rest

    @property
    def unused_data(self) -> bytes:
        """Input after the end."""
        return self._rest

    def decompress(self, data: bytes, max_length: int) -> bytes:
        """The next bytes of text, at most `max_length`. Raises `zlib.error`."""
        given = self._rest + data
        if len(self._text) < max_length:
            self._text = ctypes.create_string_buffer(max_length)
        text, stream = self._text, self._stream
        stream.next_in, stream.avail_in = ctypes.cast(ctypes.c_char_p(given), ctypes.c_void_p), len(given)
        stream.next_out, stream.avail_out = ctypes.cast(text, ctypes.c_void_p), max_length
        while stream.avail_in and stream.avail_out:
            left = stream.avail_out
            result = _library().inflate(ctypes.byref(stream), _BLOCK)
            if self._points is not None:
                self._points.text += left - stream.avail_out
            if result == _END:
                self.eof = True
                break
            if result == _NO_PROGRESS:
                break
            self._check(result)
            if (
                self._points is not None
                and stream.data_type & (_AT_BOUNDARY | _IN_LAST_BLOCK) == _AT_BOUNDARY
            ):
                self._points.note(stream)
        self._rest = given[len(given) - stream.avail_in :]
        return ctypes.string_at(text, max_length - stream.avail_out)

    def _check(self, result: int) -> None:
        if result != _OK:
            said = (self._stream.msg or b"").decode()
            raise zlib.error(f"Error {result} while decompressing data: {said}")


def can_restart() -> bool:
    """Whether zlib's functions are there."""
    return _library() is not None


def inflated_from(
    point: RestartPoint, stored: Iterator[bytes], members: Callable[[Iterator[bytes]], Iterator[bytes]]
) -> Iterator[bytes]:
    """The text from a point on. `stored`: the bytes from the one that holds its bits, or else from the first after it;
    `members` inflates whole members. Raises `zlib.error`, `EOFError`."""
    pending = next(stored, b"")
    first, pending = (pending[0], pending[1:]) if point.bits and pending else (0, pending)
    decoder = NotingDecoder(None, point, first)
    while not decoder.eof:
        if not pending and decoder.needs_input:
            pending = next(stored, b"")
            if not pending:
                raise EOFError
        yield decoder.decompress(pending, CHUNK_BYTES)
        pending = b""
    trailer = decoder.unused_data
    while len(trailer) < 8:  # checksum and size of the member, compared by the survey
        more = next(stored, b"")
        if not more:
            raise EOFError
        trailer += more

    def after() -> Iterator[bytes]:
        rest = trailer[8:]
        while rest and not rest.strip(b"\0"):  # zero bytes are allowed after a member
            rest = next(stored, b"")
        if rest:
            yield rest.lstrip(b"\0")
            yield from stored

    yield from members(after())


class _Stream(ctypes.Structure):
    """`z_stream`."""

    _fields_ = (
        ("next_in", ctypes.c_void_p),
        ("avail_in", ctypes.c_uint),
        ("total_in", ctypes.c_ulong),
        ("next_out", ctypes.c_void_p),
        ("avail_out", ctypes.c_uint),
        ("total_out", ctypes.c_ulong),
        ("msg", ctypes.c_char_p),
        ("state", ctypes.c_void_p),
        ("zalloc", ctypes.c_void_p),
        ("zfree", ctypes.c_void_p),
        ("opaque", ctypes.c_void_p),
        ("data_type", ctypes.c_int),
        ("adler", ctypes.c_ulong),
        ("reserved", ctypes.c_ulong),
    )


def _loaded() -> Any:
    for name in ("libz.so.1", "libz.dylib"):
        try:
            library = ctypes.CDLL(name)
            library.zlibVersion.restype = ctypes.c_char_p
            _ = library.inflateGetDictionary
            return library
        except (OSError, AttributeError):
            continue
    return None


_LIBRARY: Any = _loaded()


def _library() -> Any:
    return _LIBRARY
