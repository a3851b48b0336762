"""The wrappings: one function each, from bytes to bytes."""

from __future__ import annotations

import base64
import binascii
import bz2
import gzip
import io
import lzma
import tarfile
import textwrap
import urllib.parse
import zipfile
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from itertools import cycle
from struct import pack

from fixtures.formats import zip_archive


@dataclass(frozen=True, slots=True)
class Encoding:
    """One wrapping.

    Attributes:
        name: As the table has it.
        wrap: The wrapping itself.
        text: Whether what comes out is ASCII text.
        of_text: Whether it makes sense for text only.
        asked: Whether dicomguard means to undo it; what it does not is listed, not judged.
        not_in: Groups of places where it does not mean to: what shows by nothing there, or what
            every honest image would pay for, is named as a limit.
    """

    name: str
    wrap: Callable[[bytes], bytes]
    text: bool = False
    of_text: bool = False
    asked: bool = True
    not_in: frozenset[str] = frozenset()


_PIXELS = frozenset(("native pixels",))


def _deflate(data: bytes) -> bytes:
    packer = zlib.compressobj(9, zlib.DEFLATED, -zlib.MAX_WBITS)
    return packer.compress(data) + packer.flush()


def _zstd_raw(data: bytes) -> bytes:
    """A Zstandard frame (RFC 8878) of raw blocks, a content size and no checksum."""
    frame = pack("<IBI", 0xFD2FB528, 0xA0, len(data))
    blocks = [data[start : start + 65536] for start in range(0, len(data), 65536)]
    for number, block in enumerate(blocks):
        frame += pack("<I", len(block) << 3 | (number == len(blocks) - 1))[:3] + block
    return frame


def _zip_deflated(data: bytes) -> bytes:
    """A ZIP archive with one deflated member that has an innocent name."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr(zipfile.ZipInfo("image.bin"), data, zipfile.ZIP_DEFLATED)
    return buffer.getvalue()


def _tar(data: bytes) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.USTAR_FORMAT) as archive:
        entry = tarfile.TarInfo("image.bin")
        entry.size = len(data)
        archive.addfile(entry, io.BytesIO(data))
    return buffer.getvalue()


def _lines(text: bytes, width: int = 76, end: str = "\r\n") -> bytes:
    return end.join(textwrap.wrap(text.decode("ascii"), width)).encode()


def _uuencode(data: bytes) -> bytes:
    lines = [binascii.b2a_uu(data[at : at + 45]) for at in range(0, len(data), 45)]
    return b"begin 644 image.bin\n" + b"".join(lines) + b"`\nend\n"


def _xor(key: bytes) -> Callable[[bytes], bytes]:
    return lambda data: bytes(byte ^ mask for byte, mask in zip(data, cycle(key), strict=False))


def _each(change: Callable[[int], int]) -> Callable[[bytes], bytes]:
    table = bytes(change(byte) & 0xFF for byte in range(256))
    return lambda data: data.translate(table)


def _swapped(width: int) -> Callable[[bytes], bytes]:
    def swap(data: bytes) -> bytes:
        data += bytes(-len(data) % width)
        return b"".join(data[at : at + width][::-1] for at in range(0, len(data), width))

    return swap


def _values(text: bytes) -> bytes:
    """Broken into the 64-character values of one multi-valued element."""
    return _lines(text, 64, "\\")


def _chain(*names: str) -> Encoding:
    """Wrappings applied one after the other, the innermost first."""

    def wrap(data: bytes) -> bytes:
        for name in names:
            data = _PLAIN[name].wrap(data)
        return data

    return Encoding("+".join(reversed(names)), wrap, _PLAIN[names[-1]].text)


_PLAIN = {
    encoding.name: encoding
    for encoding in (
        Encoding("gzip", lambda data: gzip.compress(data, mtime=0)),
        Encoding("gzip-stored", lambda data: gzip.compress(data, 0, mtime=0)),
        Encoding("zlib", zlib.compress),
        Encoding("deflate-raw", _deflate, not_in=_PIXELS | {"private offset"}),
        Encoding("bz2", bz2.compress),
        Encoding("xz", lzma.compress),
        Encoding("lzma-alone", lambda data: lzma.compress(data, lzma.FORMAT_ALONE)),
        Encoding("zstd", _zstd_raw),
        Encoding("zip-stored", lambda data: zip_archive({"image.bin": data})),
        Encoding("zip-deflated", _zip_deflated),
        Encoding("tar", _tar),
        Encoding("base64", base64.b64encode, text=True),
        Encoding("base64-url", lambda data: base64.urlsafe_b64encode(data).rstrip(b"="), text=True),
        Encoding("base64-lines", lambda data: _lines(base64.b64encode(data)), text=True),
        Encoding("base64-values", lambda data: _values(base64.b64encode(data)), text=True),
        Encoding("base32", base64.b32encode, text=True),
        Encoding("base85", base64.b85encode, text=True),
        Encoding("ascii85", lambda data: base64.a85encode(data, adobe=True), text=True),
        Encoding("hex", lambda data: data.hex().encode(), text=True),
        Encoding("hex-spaced", lambda data: data.hex(" ").upper().encode(), text=True),
        Encoding("hex-values", lambda data: _values(data.hex().encode()), text=True),
        Encoding("decimal", lambda data: ",".join(map(str, data)).encode(), text=True),
        Encoding("decimal-values", lambda data: "\\".join(map(str, data)).encode(), text=True),
        Encoding("uuencode", _uuencode, text=True),
        Encoding("percent", lambda data: urllib.parse.quote(data).encode(), text=True, asked=False),
        Encoding("xor-01", _xor(b"\x01")),
        Encoding("xor-5a", _xor(b"\x5a")),
        Encoding("xor-ff", _xor(b"\xff")),
        Encoding("xor-four", _xor(bytes.fromhex("DEADBEEF"))),
        Encoding("add-13", _each(lambda byte: byte + 13), not_in=_PIXELS),
        Encoding("rotate-3", _each(lambda byte: byte << 3 | byte >> 5)),
        Encoding("reversed", lambda data: data[::-1]),
        Encoding("swapped-2", _swapped(2)),
        Encoding("swapped-4", _swapped(4)),
        Encoding("utf-16-le", lambda data: data.decode("ascii").encode("utf-16-le"), of_text=True),
        Encoding("utf-16-be", lambda data: data.decode("ascii").encode("utf-16-be"), of_text=True),
    )
}

ENCODINGS: tuple[Encoding, ...] = (
    *_PLAIN.values(),
    _chain("gzip", "base64"),
    _chain("xor-5a", "base64"),
    _chain("zip-deflated", "base64-lines"),
    _chain("base64", "gzip"),
    _chain("reversed", "hex"),
    _chain("gzip", "base64", "zip-deflated"),
    _chain("base64", "hex", "gzip", "base64"),
    _chain("zlib", "xor-5a", "base64", "gzip"),
)
"""Every wrapping, then chains to depth 4, named from the outside in."""
