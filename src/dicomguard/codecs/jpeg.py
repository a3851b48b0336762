"""JPEG (ITU-T T.81 annex B) and JPEG-LS (T.87 annex C): the segments before the first scan."""

from __future__ import annotations

from collections.abc import Iterator
from struct import unpack_from
from typing import Final

from dicomguard.codecs.header import FlawKind, Header

START: Final = b"\xff\xd8\xff"
_SCAN, _END, _TEM = 0xDA, 0xD9, 0x01
_DHT, _DQT, _DNL, _LS_FRAME = 0xC4, 0xDB, b"\xff\xdc\0\4", 0xF7
_ALONE = frozenset((_TEM, *range(0xD0, 0xD9)))
"""Markers without a segment: TEM, restarts and SOI."""
_FRAMES = frozenset((*range(0xC0, 0xD0), _LS_FRAME)) - {_DHT, 0xC8, 0xCC}
"""SOF0 to SOF15 and SOF55; DHT, JPG and DAC lie among them."""
_SEGMENTS = 4096
"""More segments are not walked; honest headers have about ten."""


def read(data: bytes, size: int) -> Header:
    """Walk the segments of one codestream up to its first scan.

    Args:
        data: Its first bytes, up to all of them.
        size: Bytes of the whole codestream; a header that ends with ``data`` but not with the
            codestream is not called cut.
    """
    header = Header()
    if data[:3] != START:
        header.flaw(FlawKind.NO_START, 0)
        return header
    is_whole = len(data) == size
    for marker, at, length in _segments(data, size, header):
        if marker in (_SCAN, _END):
            header.size, is_whole = at + 2 + length, True
        elif marker in _FRAMES:
            _frame(data, at, length, header)
        elif marker in (_DQT, _DHT) and length > 2 and data[at + 4 : at + 5]:
            number = data[at + 4] & 0x0F
            if number > 3:
                header.flaw(FlawKind.TABLE, at, f"table {number}")
    if header.rows is None and is_whole:
        header.flaw(FlawKind.NO_FRAME_HEADER, 0)
    if header.rows == 0 and len(data) == size and _DNL not in data:  # it may follow (B.2.5)
        header.flaw(FlawKind.NO_PIXELS, 0, f"0 x {header.columns}")
    return header


def _segments(data: bytes, size: int, header: Header) -> Iterator[tuple[int, int, int]]:
    """Marker, offset and length of each segment, the first scan's or the end marker the last."""
    at, marker = 2, 0
    for _ in range(_SEGMENTS):
        while data[at : at + 2] == b"\xff\xff":  # fill bytes (T.81 B.1.1.2)
            at += 1
        if marker in (_SCAN, _END) or at + 4 > len(data) or data[at] != 0xFF:
            return
        marker = data[at + 1]
        if marker in _ALONE:
            header.flaw(FlawKind.STRAY_MARKER, at, f"marker FF{marker:02X}")
            at += 2
            continue
        (length,) = unpack_from(">H", data, at + 2)
        if length < 2 or at + 2 + length > size:
            header.flaw(FlawKind.SEGMENT_LENGTH, at, f"FF{marker:02X} has {length} bytes")
            return
        yield marker, at, length
        at += 2 + length


def _frame(data: bytes, at: int, length: int, header: Header) -> None:
    """The frame header at ``at`` (T.81 B.2.2, T.87 C.2.2)."""
    if header.rows is not None:
        header.flaw(FlawKind.SECOND_FRAME_HEADER, at)
        return
    if length < 8 or at + 10 > len(data):
        header.flaw(FlawKind.SEGMENT_LENGTH, at, f"a frame header of {length} bytes")
        return
    header.precision, header.rows, header.columns, header.samples = unpack_from(
        ">BHHB", data, at + 4
    )
    if length != 8 + 3 * header.samples:
        detail = f"{header.samples} components in {length} bytes"
        header.flaw(FlawKind.FRAME_HEADER_LENGTH, at, detail)
    if not header.columns:
        header.flaw(FlawKind.NO_PIXELS, at, f"{header.rows} x 0")
    if not header.samples:
        header.flaw(FlawKind.COMPONENTS, at, "0 components")
    if not 2 <= header.precision <= 16:
        header.flaw(FlawKind.PRECISION, at, f"{header.precision} bits")
    factors = data[at + 11 : at + 2 + length : 3]
    if data[at + 1] != _LS_FRAME and any(not each >> 4 or not each & 15 for each in factors):
        header.flaw(FlawKind.SAMPLING, at)
