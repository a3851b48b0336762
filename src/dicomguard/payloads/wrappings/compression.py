"""Compressed streams, and the members of archives.

A stream is inflated in small steps within the allowance. Checksums are not looked at: a reader that
ignores them would still get the content.
"""

from __future__ import annotations

import re
import struct
import sys
import zlib
from collections.abc import Callable, Iterator
from importlib import import_module
from typing import NamedTuple, Protocol

from dicomguard.patterns import MATCH_LIMIT, Literals, windows
from dicomguard.payloads.fields import read_fields
from dicomguard.payloads.payload import Data
from dicomguard.payloads.wrappings.wrapping import MIN_CONTENT, Allowance, Unwrapped, is_telling

_PIECE = 1 << 12
"""Compressed bytes fed at once: what is lost where a long stream is damaged."""
_STEP = 1 << 20
"""Bytes inflated at once."""
_DICTIONARY_LOG = 27
"""Binary logarithm of the most bytes that a stream may have as its window or dictionary."""


class _Decompressor(Protocol):
    """What `bz2`, `lzma` and `zstd` agree upon."""

    @property
    def eof(self) -> bool: ...
    @property
    def needs_input(self) -> bool: ...
    @property
    def unused_data(self) -> bytes: ...
    def decompress(self, data: bytes, max_length: int) -> bytes: ...


class _Inflater:
    """Raw deflate (RFC 1951) with the same interface."""

    def __init__(self) -> None:
        self._stream = zlib.decompressobj(-zlib.MAX_WBITS)

    @property
    def eof(self) -> bool:
        return self._stream.eof

    @property
    def needs_input(self) -> bool:
        return not self._stream.unconsumed_tail

    @property
    def unused_data(self) -> bytes:
        return self._stream.unused_data

    def decompress(self, data: bytes, max_length: int) -> bytes:
        return self._stream.decompress(self._stream.unconsumed_tail + data, max_length)


# Few files need these libraries: each is loaded when it is used.


def _bzip2() -> _Decompressor:
    import bz2  # noqa: PLC0415

    return bz2.BZ2Decompressor()


def _xz() -> _Decompressor:
    import lzma  # noqa: PLC0415

    return lzma.LZMADecompressor(memlimit=1 << _DICTIONARY_LOG)


_ZSTD_LIBRARY = "compression.zstd" if sys.version_info >= (3, 14) else "backports.zstd"


def _zstd() -> _Decompressor:
    zstd = import_module(_ZSTD_LIBRARY)
    options = {zstd.DecompressionParameter.window_log_max: _DICTIONARY_LOG}
    decompressor: _Decompressor = zstd.ZstdDecompressor(options=options)
    return decompressor


def _damage() -> tuple[type[Exception], ...]:
    """What decompressors raise for bytes that are no stream."""
    errors: list[type[Exception]] = [zlib.error, OSError, EOFError, ValueError]
    for library, name in (("lzma", "LZMAError"), (_ZSTD_LIBRARY, "ZstdError")):
        if library in sys.modules:
            errors.append(getattr(sys.modules[library], name))
    return tuple(errors)


class _Inflated(NamedTuple):
    """What a stream gave: its content, its end in the data, and whether that is its own end."""

    content: bytes
    end: int
    is_whole: bool


def _inflate(
    make: Callable[[], _Decompressor],
    data: Data,
    start: int,
    high: int,
    allowance: Allowance,
    *,
    piece_size: int = _PIECE,
) -> _Inflated:
    """Inflate the stream at ``start`` as far as it goes.

    A decompressor that fails keeps what it made since it was last asked. Where that happens in the
    first piece it is fed once more byte by byte: a damaged end must not hide a short stream.
    """
    stream = make()
    pieces: list[bytes] = []
    room, at = min(allowance.room, allowance.largest), start
    try:
        while not stream.eof and room > 0:
            piece = b""
            if stream.needs_input:
                piece = data[at : min(at + piece_size, high)]
                at += len(piece)
            made = stream.decompress(piece, min(room, _STEP))
            if not (piece or made):
                break
            pieces.append(made)
            room -= len(made)
            if len(made) == _STEP and allowance.is_spent:
                break
        if room <= 0 and not stream.eof:
            allowance.limits.append("a compressed stream grows beyond the budget")
    except MemoryError:
        allowance.limits.append("a compressed stream asks for more memory than there is")
    except _damage() as error:
        if "memory" in str(error).lower():
            allowance.limits.append("a compressed stream asks for more memory than is allowed")
        elif piece_size > 1 and at - start <= piece_size:
            return _inflate(make, data, start, high, allowance, piece_size=1)
    return _Inflated(b"".join(pieces), at - len(stream.unused_data), stream.eof)


class Stream:
    """A compressed stream that its magic announces.

    Args:
        name: Of the format.
        make: Makes its decompressor.
        triggers: Its magic.
    """

    def __init__(self, name: str, make: Callable[[], _Decompressor], *triggers: str) -> None:
        self.name = name
        self.triggers = triggers
        self._make = make

    def unwrap(
        self, data: Data, hit: int, _low: int, high: int, allowance: Allowance
    ) -> Iterator[Unwrapped]:
        """Inflate it; ``hit`` is at its magic."""
        inflated = _inflate(self._make, data, hit, high, allowance)
        if len(inflated.content) >= MIN_CONTENT:
            yield Unwrapped(
                hit, inflated.end, inflated.content, self.name, is_sure=inflated.is_whole
            )


BZIP2 = Stream("bzip2", _bzip2, "{ 42 5A 68 3? 31 41 59 26 53 59 }")
XZ = Stream("xz", _xz, "{ FD 37 7A 58 5A 00 }")
# With the default properties and a size that is not known: the other forms have no magic.
LZMA = Stream("lzma", _xz, "{ 5D 00 00 ?? ?? FF FF FF FF FF FF FF FF 00 }")
ZSTD = Stream("zstd", _zstd, "{ 28 B5 2F FD }")


class Gzip:
    """A member of a gzip file (RFC 1952); those behind it have a magic of their own."""

    triggers = ("{ 1F 8B 08 ( 0? | 1? ) }",)

    _HEADER = struct.Struct("<3xB6x")
    _EXTRA, _NAME, _COMMENT, _CHECKSUM = 0x04, 0x08, 0x10, 0x02
    _SIZE = struct.Struct("<H")
    _NAME_MAX = 1 << 12
    _TRAILER = 8

    def unwrap(
        self, data: Data, hit: int, _low: int, high: int, allowance: Allowance
    ) -> Iterator[Unwrapped]:
        """Inflate it; ``hit`` is at its magic."""
        start = self._body(data, hit, high)
        if start is None:
            return
        inflated = _inflate(_Inflater, data, start, high, allowance)
        if len(inflated.content) >= MIN_CONTENT:
            end = inflated.end + self._TRAILER if inflated.is_whole else inflated.end
            yield Unwrapped(
                hit, min(end, high), inflated.content, "gzip", is_sure=inflated.is_whole
            )

    def _body(self, data: Data, hit: int, high: int) -> int | None:
        """Where the deflate stream begins, None if the header has no end."""
        fields = read_fields(self._HEADER, data, hit)
        if fields is None:
            return None
        flags, at = fields[0], hit + self._HEADER.size
        if flags & self._EXTRA:
            size = read_fields(self._SIZE, data, at)
            if size is None:
                return None
            at += 2 + size[0]
        for text in (self._NAME, self._COMMENT):
            if flags & text:
                found = data.find(b"\0", at, min(at + self._NAME_MAX, high))
                if found < 0:
                    return None
                at = found + 1
        return at + 2 if flags & self._CHECKSUM else at


class ZipMember:
    """A member of a ZIP archive (APPNOTE 6.3.10, section 4.3.7), by its own header.

    The directory of the archive is not needed: what it leaves out is unwrapped as well. Members
    compressed by bzip2, xz or Zstandard are found by the magic of those.
    """

    triggers = ("{ 50 4B 03 04 }",)

    # Version needed, flags, method; compressed size; lengths of name and extra field.
    _HEADER = struct.Struct("<4x3H8xI4x2H")
    _VERSION_MAX = 63
    _NAME_MAX = 1 << 10
    _ENCRYPTED, _SIZE_FOLLOWS = 0x0001, 0x0008
    _STORED, _DEFLATED = 0, 8

    def unwrap(
        self, data: Data, hit: int, _low: int, high: int, allowance: Allowance
    ) -> Iterator[Unwrapped]:
        """Inflate it; ``hit`` is at its header."""
        fields = read_fields(self._HEADER, data, hit)
        if fields is None:
            return
        version, flags, method, size, name, extra = fields
        if version & 0xFF > self._VERSION_MAX or not 0 < name <= self._NAME_MAX:
            return
        start = hit + self._HEADER.size + name + extra
        if flags & self._ENCRYPTED or start >= high:
            return
        if method == self._DEFLATED:
            inflated = _inflate(_Inflater, data, start, high, allowance)
            if len(inflated.content) >= MIN_CONTENT:
                yield Unwrapped(
                    hit, inflated.end, inflated.content, "zip", is_sure=inflated.is_whole
                )
        elif method == self._STORED:
            is_open = flags & self._SIZE_FOLLOWS and not size
            end = min(high if is_open else start + size, high, start + allowance.room)
            yield from _stored(hit, start, data[start:end], "zip")


class TarMember:
    """A member of a tar archive (POSIX.1-1988 ustar, GNU tar), by its own header."""

    triggers = ("{ 75 73 74 61 72 ( 00 | 20 ) }",)

    _MAGIC = 257
    _BLOCK = 512
    _SIZE, _CHECKSUM = slice(124, 136), slice(148, 156)

    def unwrap(
        self, data: Data, hit: int, low: int, high: int, allowance: Allowance
    ) -> Iterator[Unwrapped]:
        """Take it out; ``hit`` is at the magic in its header, whose checksum must be right."""
        start = hit - self._MAGIC
        header = data[start : start + self._BLOCK] if start >= low else b""
        if len(header) < self._BLOCK:
            return
        size, checksum = _octal(header[self._SIZE]), _octal(header[self._CHECKSUM])
        if size is None or checksum != sum(header) - sum(header[self._CHECKSUM]) + 8 * ord(" "):
            return
        body = start + self._BLOCK
        end = min(body + size, high, body + allowance.room)
        yield from _stored(start, body, data[body:end], "tar")


def _octal(field: bytes) -> int | None:
    """A number of a tar header, in octal digits or (GNU) in binary."""
    if field[0] == 0x80:
        return int.from_bytes(field[1:], "big")
    digits = field.strip(b" \0")
    return int(digits, 8) if re.fullmatch(rb"[0-7]{1,12}", digits) else None


def _stored(start: int, body: int, content: bytes, name: str) -> Iterator[Unwrapped]:
    """A member that is not compressed."""
    if len(content) >= MIN_CONTENT:
        yield Unwrapped(start, body + len(content), content, name, is_verbatim=True, is_sure=True)


class Zlib:
    """A zlib stream (RFC 1950) with the usual window of 32 KiB.

    Its header is two bytes, which pixels hold by chance: it must come to its end, or far.
    """

    is_text = False
    is_printable = False
    headers = (b"\x78\x01", b"\x78\x5e", b"\x78\x9c", b"\x78\xda")
    _HEADERS = Literals(headers)
    _WINDOW = MATCH_LIMIT
    """Bytes searched at once: they cannot hold so many headers that some are not told."""

    def search(self, values: Data) -> Iterator[int]:
        """Wherever the two bytes of its header are."""
        for start, _, window in windows(values, 1, self._WINDOW):
            for end, _ in self._HEADERS.occurrences(window):
                yield start + end - 2

    def unwrap(
        self, data: Data, hit: int, _low: int, high: int, allowance: Allowance
    ) -> Iterator[Unwrapped]:
        """Inflate it; ``hit`` is at its header."""
        head = data[hit + 2 : min(hit + 2 + _PROBE, high)]
        probe = zlib.decompressobj(-zlib.MAX_WBITS)
        try:
            made = len(probe.decompress(head, _STEP))
        except zlib.error:
            made = 0
        if made >= (MIN_CONTENT if probe.eof else _CONVINCING) or len(head) == _PROBE > made:
            yield from _zlib(data, hit, high, allowance)


_CONVINCING = 64
"""Chance seldom inflates so many bytes and then comes to the end of a stream."""


_PROBE = 1 << 10
"""Compressed bytes looked at first."""


def _zlib(data: Data, start: int, high: int, allowance: Allowance) -> Iterator[Unwrapped]:
    inflated = _inflate(_Inflater, data, start + 2, high, allowance)
    if len(inflated.content) >= MIN_CONTENT:
        end = inflated.end + 4 if inflated.is_whole else inflated.end
        is_sure = inflated.is_whole and len(inflated.content) >= _CONVINCING
        yield Unwrapped(start, min(end, high), inflated.content, "zlib", is_sure=is_sure)


class WholeValue:
    """A value that is one stream without a magic: zlib with a small window, lzma, raw deflate.

    Looked at are its start and what follows a length of 32 bits, as vendors write.
    """

    _CONVINCING = 128
    """Raw deflate has no header at all. Chance does not inflate so many bytes without an error, nor
    come to the end of a stream where the value ends.
    """
    _PADDING = 4

    def unwrap(
        self, data: Data, _hit: int, low: int, high: int, allowance: Allowance
    ) -> Iterator[Unwrapped]:
        """Inflate the value."""
        for start in (low, low + 4):
            head = data[start : min(start + 16, high)]
            if len(head) < 16:
                return
            found = False
            for wrapped in self._streams(data, start, high, head, allowance):
                yield wrapped
                found = True
            if found:
                return

    def _streams(
        self, data: Data, start: int, high: int, head: bytes, allowance: Allowance
    ) -> Iterator[Unwrapped]:
        """The stream at ``start``, by its first bytes."""
        is_zlib = head[0] & 0x8F == 0x08 and not head[1] & 0x20
        if is_zlib and (head[0] << 8 | head[1]) % 31 == 0:
            yield from _zlib(data, start, high, allowance)
        elif head[:3] == b"\x5d\0\0":
            yield from LZMA.unwrap(data, start, start, high, allowance)
        elif head[0] & 0x06 != 0x06:  # the fourth type of block does not exist
            yield from self._raw(data, start, high, allowance)

    def _raw(self, data: Data, start: int, high: int, allowance: Allowance) -> Iterator[Unwrapped]:
        probe = zlib.decompressobj(-zlib.MAX_WBITS)
        piece = data[start : min(start + _PIECE, high)]
        try:
            made = len(probe.decompress(piece, self._CONVINCING))
        except zlib.error:
            return
        is_all = probe.eof and len(probe.unused_data) <= self._PADDING and len(piece) < _PIECE
        if made == self._CONVINCING or (is_all and made >= MIN_CONTENT):
            inflated = _inflate(_Inflater, data, start, high, allowance)
            ends = inflated.is_whole and not data[inflated.end : high].strip(b"\0")
            # Fixed codes make something of most bytes, above all of runs of one.
            if ends or is_telling(inflated.content):
                yield Unwrapped(start, inflated.end, inflated.content, "deflate", is_sure=ends)
