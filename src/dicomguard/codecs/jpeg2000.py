"""JPEG 2000 (ITU-T T.800 annex A) and HTJ2K (T.814): SIZ and COD of the main header."""

from __future__ import annotations

from struct import unpack_from
from typing import Final

from dicomguard.codecs.header import FlawKind, Header

START: Final = b"\xff\x4f\xff\x51"
BOX: Final = b"\0\0\0\x0cjP  \r\n\x87\n"
"""The signature box of a JP2 file (T.800 I.5.1)."""
_TILE_PART, _COD, _CAP = 0xFF90, 0xFF52, 0xFF50
_TILES, _LEVELS, _PRECISION = 65_535, 32, 38
_TILE_PIXELS = 16
"""Tiles of fewer pixels only serve to be many."""
_SEGMENTS = 4096


def read(data: bytes, size: int) -> Header:
    """Walk the main header of one codestream, or of the one in a JP2 file.

    Args:
        data: Its first bytes, up to all of them.
        size: Bytes of the whole codestream.
    """
    header, start = Header(), 0
    if data[:12] == BOX:
        start = data.find(START)
    if start < 0 or data[start : start + 4] != START:
        header.flaw(FlawKind.NO_START, 0)
        return header
    at = start + 2
    for _ in range(_SEGMENTS):
        if at + 4 > len(data):
            break
        marker, length = unpack_from(">HH", data, at)
        if marker == _TILE_PART:
            header.size = at + 4
            break
        if marker < 0xFF00 or length < 2 or at + 2 + length > size:
            header.flaw(FlawKind.SEGMENT_LENGTH, at, f"{marker:04X} has {length} bytes")
            break
        if at == start + 2:
            _size(data, at, length, header)
            _capabilities(data, at, header)
        elif marker == _COD and length >= 12 and at + 10 <= len(data):
            _levels(data[at + 9], at, header)
        at += 2 + length
    return header


def _capabilities(data: bytes, at: int, header: Header) -> None:
    """The CAP segment that follows SIZ where bit 14 of its first field says so (T.800 A.5.2)."""
    needs = len(data) >= at + 6 and data[at + 4] & 0x40
    after = at + 2 + int.from_bytes(data[at + 2 : at + 4])
    if not needs or after + 8 > len(data):
        return
    marker, length, bits = unpack_from(">HHI", data, after)
    if marker != _CAP or length != 6 + 2 * bits.bit_count():
        header.flaw(FlawKind.CAPABILITIES, after, f"{length} bytes, {bits.bit_count()} parts")


def _levels(levels: int, at: int, header: Header) -> None:
    if levels > _LEVELS:
        header.flaw(FlawKind.LEVELS, at, f"{levels} levels")


def _size(data: bytes, at: int, length: int, header: Header) -> None:
    """Image and tile size (T.800 A.5.1)."""
    if length < 41 or at + 2 + length > len(data):
        header.flaw(FlawKind.SEGMENT_LENGTH, at, f"SIZ has {length} bytes")
        return
    x, y, x0, y0, tile_x, tile_y, tile_x0, tile_y0, count = unpack_from(">8IH", data, at + 6)
    components = data[at + 40 : at + 2 + length]
    header.columns, header.rows, header.samples = max(0, x - x0), max(0, y - y0), count
    if length != 38 + 3 * count or not count:
        detail = f"{count} components in {length} bytes"
        header.flaw(FlawKind.FRAME_HEADER_LENGTH, at, detail)
    if x0 >= x or y0 >= y or tile_x0 > x0 or tile_y0 > y0:
        header.flaw(FlawKind.ORIGIN, at, f"({x0}, {y0}) in {x} x {y}")
    if not tile_x or not tile_y:
        header.flaw(FlawKind.TILES, at, f"tiles of {tile_x} x {tile_y}")
    else:
        tiles = -(-max(0, x - tile_x0) // tile_x) * -(-max(0, y - tile_y0) // tile_y)
        if tiles > _TILES or (tiles > 1 and tile_x * tile_y < _TILE_PIXELS):
            header.flaw(FlawKind.TILES, at, f"{tiles} tiles of {tile_x} x {tile_y}")
    header.precision = max(((depth & 0x7F) + 1 for depth in components[::3]), default=0)
    if header.precision > _PRECISION:
        header.flaw(FlawKind.PRECISION, at, f"{header.precision} bits")
    if 0 in components[1::3] or 0 in components[2::3]:
        header.flaw(FlawKind.SAMPLING, at)
